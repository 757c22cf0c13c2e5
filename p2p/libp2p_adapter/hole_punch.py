"""From a relayed connection to a direct one, through the NATs of both ends (libp2p's DCUtR: both dial at one moment).

Works where a NAT keeps the port that a peer sends from, or lets in whoever was sent to; else the connection stays
relayed, and the swarm says so. Stock's protocol is not used: it dials whatever it is told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import trio
from libp2p.abc import ConnectionType
from libp2p.relay.circuit_v2.pb import dcutr_pb2 as pb
from multiaddr import Multiaddr

from core.job import PeerId
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.libp2p_adapter.circuit_frames import CircuitFault, receive_frame, send_frame
from p2p.libp2p_adapter.dialer import id_of, is_direct, source_for
from p2p.libp2p_adapter.relay import OpenStream
from p2p.libp2p_adapter.swarm_stream import SwarmStream
from p2p.punch_limit import PunchLimit, worth_dialling
from p2p.swarm_errors import PeerUnreachable

DCUTR = "/libp2p/dcutr"
ATTEMPTS = 3
SETTLE_S = 1.0
REVERSAL_S = 4.0
PUNCH_S = 6.0
LONGEST_RTT_S = 4.0

log = logging.getLogger(__name__)


class HolePunch:
    """Both ends of the protocol for one host. seen: where others see us, as addresses, the likeliest first."""

    def __init__(self, host: Any, *, open_stream: OpenStream, seen: Callable[[], tuple[str, ...]]) -> None:
        self._host = host
        self._open_stream = open_stream
        self._seen = seen
        self._limit = PunchLimit()

    async def upgrade(self, peer: PeerId) -> None:
        """Try to reach a peer directly whose circuit we took; the network lets the circuit go then. Never raises for
        what the peer does."""
        await trio.sleep(SETTLE_S)  # the peer says meanwhile where it listens
        if not self._limit.may_try(peer, now=trio.current_time()):
            return
        await self._reverse(peer)
        for attempt in range(ATTEMPTS):
            if self._is_direct(peer) or not self._is_connected(peer):
                break
            try:
                await self._ask(peer, as_client=attempt % 2 == 1)
            except (PeerUnreachable, StreamBroken, CircuitFault, trio.TooSlowError) as error:
                log.debug("no hole was punched to %s: %s", peer, error)

    async def serve(self, stream: ByteStream, peer: PeerId) -> None:
        """The peer that we dialled through a relay would have a direct connection: answer, and dial when it says."""
        if not isinstance(stream, SwarmStream) or not stream.is_relayed:
            return
        try:
            asked = await receive_frame(stream, pb.HolePunch)
            addresses = self._worth(asked)
            if asked.type != pb.HolePunch.CONNECT or not self._limit.may_answer(peer, now=trio.current_time()):
                return
            await send_frame(stream, self._connect())
            await receive_frame(stream, pb.HolePunch)
            await self._dial_all(peer, addresses, as_client=True)
        except (StreamBroken, CircuitFault) as error:
            log.debug("a hole punch with %s ended: %s", peer, error)

    async def _reverse(self, peer: PeerId) -> None:
        """The peer itself may be dialled where it says, when it is behind no NAT."""
        store, target = self._host.get_peerstore(), id_of(peer)
        known = [str(address) for address in store.addrs(target)] if store.has_peer(target) else []
        plain = [address.partition("/p2p/")[0] for address in known if is_direct(address)]
        with trio.move_on_after(REVERSAL_S):
            await self._dial_all(peer, worth_dialling(plain, self._seen()), as_client=True)

    async def _ask(self, peer: PeerId, *, as_client: bool) -> None:
        """One attempt: tell each other where, measure how long that takes, and dial at one moment. By the protocol,
        whoever took the circuit answers the handshake; as_client: asks instead, for when the dials don't meet."""
        stream = await self._open_stream(peer, DCUTR)
        try:
            asked_at = trio.current_time()
            await send_frame(stream, self._connect())
            answer = await receive_frame(stream, pb.HolePunch)
            rtt_s = trio.current_time() - asked_at
            if answer.type != pb.HolePunch.CONNECT or rtt_s > LONGEST_RTT_S:
                raise CircuitFault("no answer to a hole punch")
            await send_frame(stream, pb.HolePunch(type=pb.HolePunch.SYNC))
            await trio.sleep(rtt_s / 2)
            await self._dial_all(peer, self._worth(answer), as_client=as_client)
        finally:
            await stream.reset()

    def _connect(self) -> Any:
        addresses = [Multiaddr(address).to_bytes() for address in self._seen()]
        return pb.HolePunch(type=pb.HolePunch.CONNECT, ObsAddrs=addresses)

    def _worth(self, message: Any) -> list[str]:
        found = []
        for packed in message.ObsAddrs:
            try:
                found.append(str(Multiaddr(packed)))
            except Exception as error:  # noqa: BLE001  a stranger's bytes, and multiaddr raises many kinds
                raise CircuitFault("bytes are no address") from error
        return worth_dialling([address for address in found if is_direct(address)], self._seen())

    async def _dial_all(self, peer: PeerId, addresses: Sequence[str], *, as_client: bool) -> None:
        """Dial these from the port that we listen on, all at once, until one leads to the peer."""
        with trio.move_on_after(PUNCH_S):
            async with trio.open_nursery() as nursery:
                for address in addresses:
                    dial = partial(self._dial, peer, Multiaddr(address), as_client=as_client)
                    nursery.start_soon(partial(dial, won=nursery.cancel_scope))

    async def _dial(self, peer: PeerId, address: Multiaddr, *, as_client: bool, won: trio.CancelScope) -> None:
        network, target = self._host.get_network(), id_of(peer)
        source = source_for(address, self._host.get_transport_addrs())
        try:
            dial = network.dial_addr if as_client else network.dial_addr_as_responder
            await dial(address, target, source)
        except Exception as error:  # noqa: BLE001  libp2p raises many kinds; each means no hole
            log.debug("a punch at %s failed: %s", peer, type(error).__name__)
            return
        won.cancel()

    def _is_direct(self, peer: PeerId) -> bool:
        return any(not _is_relayed(one) for one in self._connections(peer))

    def _is_connected(self, peer: PeerId) -> bool:
        return bool(self._connections(peer))

    def _connections(self, peer: PeerId) -> list[Any]:
        return list(self._host.get_network().get_connections(id_of(peer)))


def _is_relayed(connection: Any) -> bool:
    return bool(connection.get_connection_type() is ConnectionType.RELAYED)
