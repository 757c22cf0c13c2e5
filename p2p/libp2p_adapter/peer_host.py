"""One libp2p host as the swarm sees it: strings, bytes and our own streams go in and out, never a libp2p type.

Decides nothing about offers or jobs. It runs once; whoever restarts it makes a new one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from libp2p.abc import ConnectionType
from libp2p.rcmgr import Direction
from multiaddr import Multiaddr

from core.job import PeerId
from core.trouble import first_of
from p2p.byte_stream import ByteStream
from p2p.libp2p_adapter.circuit_frames import HOP, STOP
from p2p.libp2p_adapter.circuits import Circuits, Reservation
from p2p.libp2p_adapter.dht import Dht
from p2p.libp2p_adapter.dialer import Dialer, id_of, is_direct
from p2p.libp2p_adapter.hole_punch import DCUTR, HolePunch
from p2p.libp2p_adapter.interfaces import listen_addresses
from p2p.libp2p_adapter.limits import OPEN_STREAM_S, ConnectionLimits, UnreadBytes
from p2p.libp2p_adapter.links import close_links, links_of, listen_too
from p2p.libp2p_adapter.network import build_host
from p2p.libp2p_adapter.relay import Relay
from p2p.libp2p_adapter.self_test import check_library
from p2p.libp2p_adapter.swarm_stream import SwarmStream
from p2p.libp2p_adapter.traffic import Traffic
from p2p.libp2p_adapter.turns import Turns
from p2p.libp2p_adapter.websocket import listen_for_browsers
from p2p.path import Path
from p2p.peer_choice import Link
from p2p.relay_book import RelayBook
from p2p.swarm_errors import PeerUnreachable, PortInUse, SwarmError
from p2p.swarm_metrics import SwarmMetrics

MAX_SEEN = 4

log = logging.getLogger(__name__)

Accept = Callable[[ByteStream, PeerId], Awaitable[None]]


class PeerHost:
    """Listens, dials, opens and accepts streams, and keeps provider records."""

    def __init__(self, seed: bytes, *, network: str, limits: ConnectionLimits = ConnectionLimits()) -> None:  # noqa: B008
        check_library()
        logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # it warns of every stream that ends
        self._changed = trio.Event()
        self._traffic = Traffic()
        self._unread = UnreadBytes()
        self._turns = Turns()
        self._host = build_host(seed, limits=limits, traffic=self._traffic, on_change=self._tell_change)
        self._dht = Dht(self._host, network, reach=self._reach, traffic=self._traffic)
        own_id, links = PeerId(str(self._host.get_id())), self._host.get_network()
        self._circuits = Circuits(own_id, links, open_stream=self.open_stream, on_taken=self._upgrade)
        self._punch = HolePunch(self._host, open_stream=self.open_stream, seen=lambda: self._seen)
        self._dialer = Dialer(self._host, self._circuits)
        self.accept(STOP, self._circuits.serve_stop)
        self.accept(DCUTR, self._punch.serve)
        self._seen: tuple[str, ...] = ()
        self._public: tuple[str, ...] = ()
        self._nursery: trio.Nursery | None = None

    def accept(self, protocol: str, accept: Accept) -> None:
        """Call accept with each inbound stream of this protocol; the stream is let go when it returns."""

        async def serve(net_stream: Any) -> None:
            stream = SwarmStream(net_stream.inner, self._unread)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.pump)
                    await accept(stream, PeerId(str(net_stream.muxed_conn.peer_id)))
                    nursery.cancel_scope.cancel()
            finally:
                await stream.reset()

        self._host.set_stream_handler(protocol, serve)

    async def run(
        self, ip: str, port: int, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run until cancelled. Raises PortInUse, or an ExceptionGroup when libp2p fails."""
        wanted = [Multiaddr(f"/ip{6 if ':' in ip else 4}/{ip}/tcp/{port}") for ip in listen_addresses(ip)]
        try:
            async with self._host.run(wanted):
                if not self._host.get_transport_addrs():
                    raise SwarmError("No address of this machine can be listened on.")
                await self._stay(task_status)
        except* PortInUse as group:
            raise first_of(group) from None
        finally:
            self._host.get_network().close_sockets()

    def addresses(self) -> tuple[str, ...]:
        """Where to dial us, each with our peer id: where strangers reached us, by relays, and where we listen."""
        relayed = [held.address for held in self._circuits.reservations()]
        self._host.reached_at = tuple(Multiaddr(address) for address in (*self._public, *relayed))
        return tuple(dict.fromkeys(str(address) for address in self._host.get_addrs()))

    def listens_at(self) -> tuple[tuple[str, int], ...]:
        """The IP addresses and ports of our own sockets, but for browsers' ones."""
        parts = [str(address).split("/") for address in self._host.get_transport_addrs()]
        return tuple((part[2], int(part[4])) for part in parts if "ws" not in part)

    def set_public(self, addresses: Sequence[str]) -> None:
        """Say from now on that strangers reach us there (addresses without an id)."""
        self._public = tuple(f"{address}/p2p/{self._host.get_id()}" for address in addresses)
        self.addresses()
        self._tell_change()

    def connected(self) -> tuple[PeerId, ...]:
        """The peers we are connected to."""
        return tuple(PeerId(str(peer)) for peer in self._host.get_connected_peers())

    def set_seen(self, addresses: Sequence[str]) -> None:
        """Where others see us (addresses without an id): what a peer behind another NAT may dial at the same moment."""
        self._seen = tuple(dict.fromkeys(addresses))[:MAX_SEEN]

    def path_of(self, peer_id: PeerId) -> Path | None:
        """How bytes to this peer go; None where we are not connected."""
        connections = self._host.get_network().get_connections(id_of(peer_id))
        if not connections:
            return None
        is_relayed = all(one.get_connection_type() is ConnectionType.RELAYED for one in connections)
        return Path.RELAYED if is_relayed else Path.DIRECT

    def rtt_of(self, peer_id: PeerId) -> float | None:
        """Seconds there and back to this peer, by pings, on the way that bytes go now; None: not known yet."""
        connections = self._host.get_network().get_connections(id_of(peer_id))
        direct = [one for one in connections if one.get_connection_type() is not ConnectionType.RELAYED]
        return next((rtt_s for one in direct or connections if (rtt_s := float(one.muxed_conn.rtt()))), None)

    def seen_at(self, peer_id: PeerId) -> tuple[str, int] | None:
        """The IP address and port from which a peer is connected to us directly."""
        connections = self._host.get_network().get_connections(id_of(peer_id))
        found = (one.muxed_conn.get_remote_address() for one in connections)
        return next(filter(None, found), None)

    def has_dialled(self, ip: str) -> bool:
        """Whether we have sent to this IP address lately, so that our NAT may let it in."""
        return bool(self._host.get_network().dialled.has(ip, now=trio.current_time()))

    def serve_relay(self, book: RelayBook) -> None:
        """Carry others' connections from now on, within the book's limits."""

        def seen_at(peer_id: PeerId) -> str:
            return (self.seen_at(peer_id) or ("", 0))[0]

        self.accept(HOP, Relay(book, open_stream=self.open_stream, seen_at=seen_at).serve)

    def relays(self) -> tuple[PeerId, ...]:
        """The peers that say they are relays, and that we have dialled, so that we know where."""
        store = self._host.get_peerstore()
        return tuple(peer for peer in self.connected() if self._is_dialled(peer) and HOP in _protocols(store, peer))

    async def reserve(self, relay: PeerId) -> Reservation:
        """Let others reach us through this connected relay. Raises PeerUnreachable."""
        if self.seen_at(relay) is None:
            raise PeerUnreachable("The relay is not connected directly.")
        held = await self._circuits.reserve(relay, relay_address=self._relay_address(relay))
        self.addresses()
        self._tell_change()
        return held

    def reservations(self) -> tuple[Reservation, ...]:
        """What relays have promised us, and hold while we are connected to them."""
        for held in self._circuits.reservations():
            if self.path_of(held.relay) is not Path.DIRECT:
                self._circuits.forget(held.relay)
        return self._circuits.reservations()

    def metrics(self) -> SwarmMetrics:
        """What has been carried and refused so far."""
        connections = len(self._host.get_network().get_connections())
        return self._traffic.snapshot(connections=connections, provider_records=self._dht.provider_records)

    async def listen_at(self, ips: Sequence[str], port: int) -> None:
        """Listen at these too, as far as the system lets us."""
        await listen_too(self._host.get_network(), ips, port=port)

    async def listen_for_browsers(self, ips: Sequence[str], port: int) -> None:
        """Take WebSockets too, at this port of these addresses. Raises PortInUse."""
        await listen_for_browsers(self._host.get_network(), ips, port=port)

    def links(self) -> tuple[Link, ...]:
        """Every connection, once a peer."""
        return links_of(self._host.get_network())

    async def disconnect(self, peer_id: PeerId) -> None:
        """Close the connections to this peer. Bounded; never raises."""
        await close_links(self._host.get_network(), id_of(peer_id))

    async def wait_change(self) -> None:
        """Until a peer has come or gone."""
        await self._changed.wait()

    async def connect(self, peer_id: PeerId, addresses: Sequence[str], *, from_port: bool = False) -> None:
        """Connect, trying all addresses, relays a little later (Dialer.connect). Raises PeerUnreachable."""
        async with self._turns.of(peer_id):
            if peer_id in self.connected():
                return
            await self._dialer.connect(peer_id, (*addresses, *self._detours(peer_id)), from_port=from_port)
        if peer_id not in self.connected():
            raise PeerUnreachable("The peer does not answer at any address known for it.")
        await self._dht.meet(id_of(peer_id))

    async def dial_once(self, peer_id: PeerId, addresses: Sequence[str]) -> bool:
        """Dial a peer that we are not connected to, to see whether it can be; the connection stays, if there is one."""
        await self._dialer.connect(peer_id, [address for address in addresses if is_direct(address)])
        return self.path_of(peer_id) is Path.DIRECT

    async def open_stream(self, peer_id: PeerId, protocol: str) -> ByteStream:
        """A stream to a connected peer; the caller must close or reset it. Raises PeerUnreachable."""
        return (await self.open_newest(peer_id, (protocol,)))[1]

    async def open_newest(self, peer_id: PeerId, versions: tuple[str, ...]) -> tuple[str, ByteStream]:
        """A stream of the first of these protocols that the peer speaks, and which one that is. Raises as open_stream
        does."""
        if self._nursery is None or peer_id not in self.connected():
            raise PeerUnreachable("The peer is not connected.")
        try:
            with trio.fail_after(OPEN_STREAM_S):
                opened = await self._host.new_stream(id_of(peer_id), list(versions))
        except Exception as error:  # noqa: BLE001  libp2p raises many kinds; each means no stream
            raise PeerUnreachable(f"The peer opens no stream: {type(error).__name__}.") from error
        stream = SwarmStream(opened, self._unread)
        await self._pump(stream)
        return str(opened.get_protocol()), stream

    async def provide(self, key: bytes) -> bool:
        """Publish a provider record for this multihash; False when no node took it."""
        return await self._dht.provide(key)

    async def find_providers(self, key: bytes) -> list[tuple[PeerId, tuple[str, ...]]]:
        """Peers with a provider record for this multihash, and their addresses."""
        return await self._dht.find_providers(key)

    async def _pump(self, stream: SwarmStream) -> None:
        """Raises PeerUnreachable where the swarm was left while the stream was opened."""
        if self._nursery is None:
            await stream.reset()
            raise PeerUnreachable("The swarm was left.")
        self._nursery.start_soon(stream.pump)

    async def _stay(self, task_status: trio.TaskStatus[Any]) -> None:
        async with self._dht.running(), trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None
                await self._host.get_network().take_leave()

    def _upgrade(self, peer_id: PeerId) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._punch.upgrade, peer_id)

    def _detours(self, peer_id: PeerId) -> list[str]:
        """Through the relays that we know: what we know of the peer may be older than its place there."""
        relays = [relay for relay in self.relays() if relay != peer_id]
        return [f"{self._relay_address(relay)}/p2p-circuit/p2p/{peer_id}" for relay in relays]

    def _relay_address(self, relay: PeerId) -> str:
        ip, port = self.seen_at(relay) or ("0.0.0.0", 0)
        return f"/ip{6 if ':' in ip else 4}/{ip}/tcp/{port}/p2p/{relay}"

    def _is_dialled(self, peer_id: PeerId) -> bool:
        connections = self._host.get_network().get_connections(id_of(peer_id))
        return self.path_of(peer_id) is Path.DIRECT and any(one.direction is Direction.OUTBOUND for one in connections)

    async def _reach(self, peer: Any) -> None:
        """Connect to a peer that the DHT names, at the addresses that it gave."""
        if not self._host.get_network().get_connections(peer):
            store = self._host.get_peerstore()
            known = store.addrs(peer) if store.has_peer(peer) else []
            await self.connect(PeerId(str(peer)), [str(address) for address in known])

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _protocols(store: Any, peer_id: PeerId) -> list[str]:
    try:
        return list(store.get_protocols(id_of(peer_id)))
    except Exception:  # noqa: BLE001  the store raises for whom it does not know
        return []
