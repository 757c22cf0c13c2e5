"""Is the installed libp2p the one this adapter repairs? Asked at every start: an upgrade is a port, not a surprise."""

from __future__ import annotations

from importlib.metadata import version

from libp2p.host.basic_host import BasicHost
from libp2p.kad_dht.kad_dht import KadDHT
from libp2p.kad_dht.peer_routing import PeerRouting
from libp2p.kad_dht.provider_store import ProviderStore
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.stream.net_stream import NetStream
from libp2p.network.swarm import Swarm
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.tcp.tcp import TCP

from p2p.swarm_errors import LibraryChanged

VERSION = "0.8.1"

REPLACED: tuple[tuple[type, tuple[str, ...]], ...] = (
    (Swarm, ("_handle_inbound_connection", "upgrade_inbound_raw_conn", "add_conn", "remove_conn", "dial_addr")),
    (BasicHost, ("_swarm_stream_handler", "_identify_task_entry", "new_stream", "run", "get_transport_addrs")),
    (Yamux, ("start", "open_stream", "_write_frame", "_read_data_body", "_measure_rtt_loop", "_cleanup_on_error")),
    (AutoConnector, ("maybe_connect",)),
    (MuxerMultistream, ("new_conn", "_annotate_connection")),
    (TCP, ("_dial_resolved", "create_listener")),
    (NetStream, ("read", "write", "close_write", "reset")),
    (ProviderStore, ("provide", "get_providers", "_get_providers_from_peer_with_closers")),
    (PeerRouting, ("find_closest_peers_network",)),
    (KadDHT, ("add_peer", "handle_stream")),
)


def check_library() -> None:
    """Raises LibraryChanged if the version or any method that is replaced or relied on is not the known one."""
    if version("libp2p") != VERSION:
        raise LibraryChanged(f"This build needs libp2p {VERSION}; {version('libp2p')} is installed.")
    missing = [f"{owner.__name__}.{name}" for owner, names in REPLACED for name in names if not hasattr(owner, name)]
    if missing:
        raise LibraryChanged(f"libp2p lacks {', '.join(missing)}.")
