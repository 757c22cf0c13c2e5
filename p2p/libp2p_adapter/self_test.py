"""Is the installed libp2p the one this adapter repairs? Asked at every start: an upgrade is a port, not a surprise."""

from __future__ import annotations

from importlib.metadata import version

from libp2p.host.basic_host import BasicHost
from libp2p.io.trio import TrioTCPStream
from libp2p.kad_dht.kad_dht import KadDHT
from libp2p.kad_dht.peer_routing import PeerRouting
from libp2p.kad_dht.provider_store import ProviderStore
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.net_stream import NetStream
from libp2p.network.swarm import Swarm
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.io import NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream
from libp2p.transport.tcp.tcp import TCP

from p2p.swarm_errors import LibraryChanged

VERSION = "0.8.1"

REPLACED: tuple[tuple[type, tuple[str, ...]], ...] = (
    (Swarm, ("_handle_inbound_connection", "upgrade_inbound_raw_conn", "add_conn", "remove_conn", "dial_addr")),
    (Swarm, ("get_connections", "get_peer_id", "listen", "_trim_connections")),
    (BasicHost, ("_swarm_stream_handler", "_identify_task_entry", "_push_identify_to_all_peers", "new_stream")),
    (BasicHost, ("run", "get_addrs", "get_transport_addrs", "set_stream_handler", "remove_stream_handler")),
    (Yamux, ("start", "open_stream", "_write_frame", "_read_data_body", "_measure_rtt_loop", "_cleanup_on_error")),
    (YamuxStream, ("write", "read", "reset")),
    (SecureSession, ("read", "write", "_drain")),
    (NoiseTransportReadWriter, ("encrypt", "decrypt")),
    (AutoConnector, ("maybe_connect",)),
    (MuxerMultistream, ("new_conn", "_annotate_connection")),
    (TCP, ("_dial_resolved", "create_listener")),
    (TrioTCPStream, ("read", "write", "close", "get_remote_address")),
    (NetStream, ("read", "write", "close_write", "reset", "get_protocol")),
    (SwarmConn, ("close", "get_streams", "get_connection_type")),
    (PeerStore, ("add_addrs", "addrs", "has_peer", "set_protocols", "add_protocols", "get_protocols")),
    (ProviderStore, ("provide", "add_provider", "get_providers", "cleanup_expired")),
    (ProviderStore, ("size", "_get_providers_from_peer_with_closers")),
    (PeerRouting, ("find_closest_peers_network",)),
    (KadDHT, ("add_peer", "handle_stream", "_do_handle_stream", "run")),
)


def check_library() -> None:
    """Raises LibraryChanged if the version or any method that is replaced or relied on is not the known one."""
    if version("libp2p") != VERSION:
        raise LibraryChanged(f"This build needs libp2p {VERSION}; {version('libp2p')} is installed.")
    missing = [f"{owner.__name__}.{name}" for owner, names in REPLACED for name in names if not hasattr(owner, name)]
    if missing:
        raise LibraryChanged(f"libp2p lacks {', '.join(missing)}.")
