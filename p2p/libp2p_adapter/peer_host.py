"""One libp2p host as the swarm sees it: strings, bytes and our own streams go in and out, never a libp2p type.

Decides nothing about offers or jobs. It runs once; whoever restarts it makes a new one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from core.job import PeerId
from core.trouble import first_of
from p2p.byte_stream import ByteStream
from p2p.libp2p_adapter.dht import Dht
from p2p.libp2p_adapter.interfaces import listen_addresses
from p2p.libp2p_adapter.limits import DIAL_S, DIAL_STAGGER_S, OPEN_STREAM_S, UPGRADE_S, ConnectionLimits
from p2p.libp2p_adapter.network import build_host
from p2p.libp2p_adapter.self_test import check_library
from p2p.libp2p_adapter.swarm_stream import SwarmStream
from p2p.swarm_errors import PeerUnreachable, PortInUse, SwarmError

MAX_ADDRESSES = 8

log = logging.getLogger(__name__)

Accept = Callable[[ByteStream, PeerId], Awaitable[None]]


class PeerHost:
    """Listens, dials, opens and accepts streams, and keeps provider records."""

    def __init__(self, seed: bytes, *, network: str, limits: ConnectionLimits = ConnectionLimits()) -> None:  # noqa: B008
        check_library()
        logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # it warns of every stream that ends
        self._changed = trio.Event()
        self._host = build_host(seed, limits=limits, on_change=self._tell_change)
        self._dht = Dht(self._host, network)
        self._nursery: trio.Nursery | None = None

    def accept(self, protocol: str, accept: Accept) -> None:
        """Call accept with each inbound stream of this protocol; the stream is let go when it returns."""

        async def serve(net_stream: Any) -> None:
            stream = SwarmStream(net_stream)
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
        """Where we listen, each with our peer id."""
        return tuple(str(address) for address in self._host.get_addrs())

    def connected(self) -> tuple[PeerId, ...]:
        """The peers we are connected to."""
        return tuple(PeerId(str(peer)) for peer in self._host.get_connected_peers())

    async def wait_change(self) -> None:
        """Until a peer has come or gone."""
        await self._changed.wait()

    async def connect(self, peer_id: PeerId, addresses: Sequence[str]) -> None:
        """Connect, trying all addresses, each a little after the one before. Raises PeerUnreachable."""
        if peer_id in self.connected():
            return
        usable = [address for address in addresses if _is_usable(address)][:MAX_ADDRESSES]
        async with trio.open_nursery() as nursery:
            for place, address in enumerate(usable):
                won = nursery.cancel_scope
                nursery.start_soon(partial(self._dial, peer_id, address, delay_s=place * DIAL_STAGGER_S, won=won))
        if peer_id not in self.connected():
            raise PeerUnreachable("The peer does not answer at any address known for it.")
        await self._dht.meet(_id(peer_id))

    async def open_stream(self, peer_id: PeerId, protocol: str) -> ByteStream:
        """A stream to a connected peer; the caller must close or reset it. Raises PeerUnreachable."""
        if self._nursery is None or peer_id not in self.connected():
            raise PeerUnreachable("The peer is not connected.")
        try:
            with trio.fail_after(OPEN_STREAM_S):
                stream = SwarmStream(await self._host.new_stream(_id(peer_id), [protocol]))
        except Exception as error:  # noqa: BLE001  libp2p raises many kinds; each means no stream
            raise PeerUnreachable(f"The peer opens no stream: {type(error).__name__}.") from error
        self._nursery.start_soon(stream.pump)
        return stream

    async def provide(self, key: bytes) -> bool:
        """Publish a provider record for this multihash; False when no node took it."""
        return await self._dht.provide(key)

    async def find_providers(self, key: bytes) -> list[tuple[PeerId, tuple[str, ...]]]:
        """Peers with a provider record for this multihash, and their addresses."""
        return await self._dht.find_providers(key)

    async def _stay(self, task_status: trio.TaskStatus[Any]) -> None:
        async with self._dht.running(), trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None
                await self._host.get_network().take_leave()

    async def _dial(self, peer_id: PeerId, address: str, *, delay_s: float, won: trio.CancelScope) -> None:
        await trio.sleep(delay_s)
        try:
            with trio.fail_after(DIAL_S + UPGRADE_S):
                peer = _id(peer_id)
                self._host.get_peerstore().add_addrs(peer, [Multiaddr(address)], 3_600)
                await self._host.get_network().dial_addr(Multiaddr(address), peer)
        except Exception as error:  # noqa: BLE001  any fault of one address leaves the others
            log.debug("dialling %s failed: %s", peer_id, type(error).__name__)
            return
        won.cancel()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _id(peer_id: PeerId) -> ID:
    try:
        return ID.from_base58(peer_id)
    except ValueError as error:
        raise PeerUnreachable("This is no peer id.") from error


def _is_usable(address: str) -> bool:
    """Plain TCP on an IP address; relays, names and other transports are for later."""
    try:
        names = [protocol.name for protocol in Multiaddr(address).protocols()]
    except Exception:  # noqa: BLE001  addresses come from strangers, and multiaddr raises many kinds
        return False
    return names in (["ip4", "tcp"], ["ip4", "tcp", "p2p"], ["ip6", "tcp"], ["ip6", "tcp", "p2p"])
