"""libp2p's swarm and host with stock faults repaired: slots that are released, streams that may fail, no plaintext.

Only this package imports libp2p, and its types stay here: peer_host turns them into our own.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.host.basic_host import BasicHost
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.swarm import Swarm, _NegativePeerCache
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.transport.upgrader import TransportUpgrader

from p2p.libp2p_adapter.bounded_stream import BoundedStream, Greeted
from p2p.libp2p_adapter.dialer import DialledIps
from p2p.libp2p_adapter.duplicates import doomed_of
from p2p.libp2p_adapter.limits import (
    DIAL_S,
    LEAVE_S,
    MAX_IDENTIFY_BYTES,
    MAX_KNOWN_PEERS,
    MAX_PEER_ADDRESSES,
    MAX_PEER_PROTOCOLS,
    MAX_STREAMS_A_PEER,
    OPEN_STREAM_S,
    UPGRADE_S,
    ConnectionLimits,
    InboundCount,
    NewcomerRate,
)
from p2p.libp2p_adapter.muxer import Muxers
from p2p.libp2p_adapter.tcp import Tcp
from p2p.libp2p_adapter.traffic import Traffic
from p2p.libp2p_adapter.websocket import WebSocket

NEGATIVE_CACHE_S = 2.0
LOOPBACK = ("/ip4/127.", "/ip6/::1/")
RETIRE_S = 60.0
RETIRE_LOOK_S = 1.0

log = logging.getLogger(__name__)


class Network(Swarm):  # type: ignore[misc]
    """The connections of one host."""

    def __init__(
        self,
        *parts: Any,
        tcp: Tcp,
        limits: ConnectionLimits,
        traffic: Traffic,
        on_change: Callable[[], None],
        **options: Any,
    ) -> None:
        super().__init__(*parts, [tcp, WebSocket(tcp, limits=limits, traffic=traffic)], **options)
        self._tcp = tcp
        self._traffic = traffic
        self._inbound = InboundCount(limits)
        self._newcomers = NewcomerRate(limits)
        self._on_change = on_change
        self.dialled = DialledIps()
        self.auto_connector = NoAutoConnector(self)
        self._negative_peer_cache = _NegativePeerCache(ttl=NEGATIVE_CACHE_S)

    async def _handle_inbound_connection(self, read_write_closer: Any, maddr: Any) -> None:
        """Keep a slot while a newcomer is connected. Stock: slots are never released, 250 newcomers and it is over."""
        address = read_write_closer.get_remote_address()
        ip = address[0] if address else ""
        is_welcome = self._newcomers.admits(ip, now=trio.current_time())
        if not is_welcome or not self._inbound.take(ip):
            self._traffic.refused_connections += 1
            await read_write_closer.close()
            return
        is_half_open = True
        try:
            muxed = await self.upgrade_inbound_raw_conn(RawConnection(read_write_closer, False), maddr)
            self._inbound.established(ip)
            is_half_open = False
            await muxed.event_closed.wait()
        except Exception as error:  # noqa: BLE001  a newcomer's fault must not end the listener
            log.debug("a newcomer could not connect: %s", type(error).__name__)
        finally:
            if is_half_open:
                self._traffic.refused_handshakes += 1
                self._inbound.established(ip)
            self._inbound.release(ip)
            await trio.aclose_forcefully(read_write_closer.stream)

    async def add_conn(self, muxed_conn: Any, direction: str = "unknown") -> Any:
        """Register a connection whose peer is proven, and say that something changed."""
        _lift(muxed_conn)
        connection = await super().add_conn(muxed_conn, direction)
        self._traffic.connections_in += direction == "inbound"
        self._traffic.connections_out += direction == "outbound"
        self._keep_one(connection)
        self._on_change()
        return connection

    def _keep_one(self, newest: Any) -> None:
        """One connection a peer: no new streams on the others, which close when theirs have ended."""
        peer = newest.muxed_conn.peer_id
        ends = {"own_id": str(self.get_peer_id()), "peer_id": str(peer)}
        for older in [one for one in self.connections.get(peer, ()) if one is not newest]:
            doomed = doomed_of(older, newest, **ends)
            if doomed is not None and doomed in self.connections.get(peer, ()):
                self.connections[peer].remove(doomed)
                self.manager.run_task(_retire, doomed)

    async def dial_addr(self, *target: Any) -> Any:
        """Dial one address once, and count it. target: the address, the peer, and perhaps where to dial from."""
        self.dialled.note(target[0], now=trio.current_time())
        self._traffic.dials += 1
        try:
            return await super().dial_addr(*target)
        except Exception:
            self._traffic.dials_failed += 1
            raise

    def _trim_connections(self, peer_id: Any) -> None:
        """Keep a relayed connection beside a new direct one while streams are on it. Stock ends the older one."""
        kinds = {one.get_connection_type() for one in self.connections[peer_id]}
        if len(kinds) < 2:
            super()._trim_connections(peer_id)

    def remove_conn(self, swarm_conn: Any) -> None:
        """Forget a connection, and say that something changed."""
        super().remove_conn(swarm_conn)
        self._on_change()

    def close_sockets(self) -> None:
        """Close every socket at once. Stock leaves them open when it is cancelled: a taken port, and zombies."""
        self._tcp.close_all()

    async def take_leave(self) -> None:
        """Say goodbye to every peer. Bounded, and not cancelled."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVE_S):
            async with trio.open_nursery() as nursery:
                for connection in self.get_connections():
                    nursery.start_soon(_closed, connection)


def _lift(muxed_conn: Any) -> None:
    """A relayed connection has no socket of its own, and nothing to lift."""
    secured = getattr(muxed_conn, "secured_conn", None)
    stream = getattr(getattr(getattr(secured, "conn", None), "read_writer", None), "read_write_closer", None)
    lift = getattr(getattr(stream, "stream", None), "lift", None)
    if lift is not None:
        lift()


async def _retire(connection: Any) -> None:
    """Close a connection once its streams have ended, or after a minute."""
    until = trio.current_time() + RETIRE_S
    await trio.sleep(RETIRE_LOOK_S)
    while connection.get_streams() and trio.current_time() < until and not connection.is_closed:
        await trio.sleep(RETIRE_LOOK_S)
    await _closed(connection)


async def _closed(connection: Any) -> None:
    try:
        await connection.close()
    except Exception as error:  # noqa: BLE001  it is closed again below us, whatever happened here
        log.debug("a connection did not close politely: %s", type(error).__name__)


class NoAutoConnector(AutoConnector):  # type: ignore[misc]
    """Stock dials every peer it ever heard of, up to the middle of the watermarks. We dial whom we need."""

    async def maybe_connect(self) -> None:
        """Nobody is dialled unasked."""


class Host(BasicHost):  # type: ignore[misc]
    """A host that no stream can take down."""

    def __init__(self, network: Network, traffic: Traffic) -> None:
        self._traffic = traffic
        self._streams_of: Counter[str] = Counter()
        self.reached_at: tuple[Any, ...] = ()
        super().__init__(network, negotiate_timeout=int(UPGRADE_S), disable_identify_address_discovery=True)
        self.remove_stream_handler(ID_PUSH)

    def get_addrs(self) -> list[Any]:
        """Where others can dial us: reached_at (behind a NAT, or by relays), then where we listen. A loopback address
        is told only where there is no other: whoever heard it would dial himself."""
        found = [*self.reached_at, *super().get_addrs()]
        return [address for address in found if not str(address).startswith(LOOPBACK)] or found

    async def new_stream(self, peer_id: Any, protocol_ids: Any) -> Any:
        """A stream to a connected peer. Stock parses up to 1 MiB of what a stranger says of himself."""
        stream = await super().new_stream(peer_id, protocol_ids)
        self._traffic.streams_out += 1
        return BoundedStream(stream, most=MAX_IDENTIFY_BYTES) if IDENTIFY in protocol_ids else stream

    async def _push_identify_to_all_peers(self) -> None:
        """Nobody is told: a peer's addresses come in signed records of ours."""

    async def _swarm_stream_handler(self, net_stream: Any) -> None:
        """Serve one inbound stream in its own guard. Stock: any exception (garbage is one) ends the host."""
        peer = str(net_stream.muxed_conn.peer_id)
        if self._streams_of[peer] >= MAX_STREAMS_A_PEER:
            self._traffic.refused_streams += 1
            await net_stream.reset()
            return
        self._streams_of[peer] += 1
        self._traffic.streams_in += 1
        try:
            await super()._swarm_stream_handler(Greeted(net_stream))
        except Exception as error:  # noqa: BLE001  one stream's fault ends one stream
            self._traffic.failed_streams += 1
            log.info("a stream from %s failed: %s", peer, type(error).__name__)
            await net_stream.reset()
        finally:
            self._traffic.refused_streams += net_stream.get_protocol() is None
            self._streams_of[peer] -= 1
            if not self._streams_of[peer]:
                del self._streams_of[peer]

    async def _identify_task_entry(self, peer_id: Any, reason: str) -> None:
        """Identify a peer. Stock: runs as a system task, where an exception ends the whole process."""
        try:
            await super()._identify_task_entry(peer_id, reason)
        except Exception as error:  # noqa: BLE001  see above
            log.info("identify of %s failed: %s", peer_id, type(error).__name__)


class KnownPeers(PeerStore):  # type: ignore[misc]
    """What peers say of themselves, as far as there is room. Stock keeps every address that anyone ever claimed."""

    def add_addrs(self, peer_id: Any, addrs: Any, *ttl: int) -> None:
        """Remember addresses; the oldest make room for more."""
        super().add_addrs(peer_id, list(addrs)[:MAX_PEER_ADDRESSES], *ttl)
        known = self.peer_data_map[peer_id].addrs
        del known[:-MAX_PEER_ADDRESSES]

    def set_protocols(self, peer_id: Any, protocols: Any) -> None:
        """Remember what a peer speaks."""
        super().set_protocols(peer_id, list(protocols)[:MAX_PEER_PROTOCOLS])

    def add_protocols(self, peer_id: Any, protocols: Any) -> None:
        """Remember what else a peer speaks."""
        known = self.get_protocols(peer_id) if self.has_peer(peer_id) else []
        self.set_protocols(peer_id, dict.fromkeys([*known, *protocols]))


def build_host(
    seed: bytes, *, limits: ConnectionLimits, traffic: Traffic, on_change: Callable[[], None]
) -> Host:
    """A host for this Ed25519 seed: TCP, Noise only (stock also takes plaintext: anyone's peer id), Yamux only."""
    keys = create_new_key_pair(seed)
    peer_id = ID.from_pubkey(keys.public_key)
    noise = NoiseTransport(keys, noise_privkey=create_noise_key_pair().private_key)
    upgrader = TransportUpgrader({NOISE: noise}, {}, negotiate_timeout=int(UPGRADE_S))
    upgrader.muxer_multistream = Muxers(traffic)
    store = KnownPeers(max_records=MAX_KNOWN_PEERS, max_peers=MAX_KNOWN_PEERS)
    store.add_key_pair(peer_id, keys)
    network = Network(
        peer_id,
        store,
        upgrader,
        tcp=Tcp(traffic),
        limits=limits,
        traffic=traffic,
        on_change=on_change,
        retry_config=RetryConfig(max_retries=0),
        connection_config=_config(limits),
    )
    return Host(network, traffic)


def _config(limits: ConnectionLimits) -> ConnectionConfig:
    """One connection a peer makes a dial end at once; stock takes 250 ms for each."""
    return ConnectionConfig(
        max_connections=limits.total + limits.kept_for_dials,
        min_connections=0,
        low_watermark=0,
        high_watermark=limits.total + limits.kept_for_dials,
        max_connections_per_peer=1,
        dial_timeout=DIAL_S,
        inbound_upgrade_timeout=UPGRADE_S,
        outbound_upgrade_timeout=UPGRADE_S,
        outbound_stream_protocol_negotiation_timeout=OPEN_STREAM_S,
        inbound_stream_protocol_negotiation_timeout=UPGRADE_S,
    )
