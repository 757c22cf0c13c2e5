"""Connections through a relay, at their two ends: reserving, dialling, and being dialled (circuit relay v2).

A circuit is a stream to the relay that is upgraded like a socket, with Noise and Yamux of its own: the relay reads
nothing. Takes circuits only from relays where we have a reservation. Stock's transport is not used: it picks relays by
itself, and leaves its streams open.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec
import trio
from libp2p.abc import ConnectionType
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb
from multiaddr import Multiaddr

from core.job import PeerId
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.libp2p_adapter.circuit_frames import HOP, CircuitFault, receive_frame_and_rest, send_frame
from p2p.libp2p_adapter.limits import UPGRADE_S
from p2p.libp2p_adapter.relay import OpenStream
from p2p.swarm_errors import PeerUnreachable

MAX_CIRCUITS_IN = 64
ANSWER_S = 15.0
UPGRADE_RELAYED_S = 2 * UPGRADE_S
MAX_RESERVATION_S = 86_400.0

log = logging.getLogger(__name__)


class Reservation(msgspec.Struct, frozen=True):
    """A relay lets others reach us, at this address, until then (trio's clock, seconds)."""

    relay: PeerId
    address: str
    until: float


class Circuits:
    """This peer's connections through relays. network: the libp2p swarm that they are added to; on_taken: told of each
    peer that dialled us so."""

    def __init__(
        self, own_id: PeerId, network: Any, *, open_stream: OpenStream, on_taken: Callable[[PeerId], None]
    ) -> None:
        self._on_taken = on_taken
        self._own_id = own_id
        self._network = network
        self._open_stream = open_stream
        self._reservations: dict[PeerId, Reservation] = {}
        self._taken = 0

    def reservations(self) -> tuple[Reservation, ...]:
        """Those that hold, as far as we know."""
        now = trio.current_time()
        self._reservations = {relay: held for relay, held in self._reservations.items() if held.until > now}
        return tuple(self._reservations.values())

    def forget(self, relay: PeerId) -> None:
        """The relay is gone."""
        self._reservations.pop(relay, None)

    async def reserve(self, relay: PeerId, *, relay_address: str) -> Reservation:
        """Ask a connected relay to let others reach us through it, or to go on with that. relay_address: where others
        may dial the relay, with its id. Raises PeerUnreachable."""
        answer, _ = await self._ask(relay, pb.HopMessage(type=pb.HopMessage.RESERVE))
        lasts_s = min(answer.reservation.expire - time.time(), MAX_RESERVATION_S)
        if lasts_s <= 0:
            raise PeerUnreachable("The relay's reservation has ended before it began.")
        address = f"{relay_address}/p2p-circuit/p2p/{self._own_id}"
        held = Reservation(relay, address, trio.current_time() + lasts_s)
        self._reservations[relay] = held
        return held

    async def dial(self, relay: PeerId, peer: PeerId) -> None:
        """Connect to this peer through a connected relay. Raises PeerUnreachable."""
        target = ID.from_base58(peer)
        asked = pb.HopMessage(type=pb.HopMessage.CONNECT)
        asked.peer.id = target.to_bytes()
        _, circuit = await self._ask(relay, asked)
        try:
            with trio.fail_after(UPGRADE_RELAYED_S):
                raw = _raw(circuit, relay=relay, peer=peer, is_initiator=True)
                await self._network.upgrade_outbound_raw_conn(raw, target)
        except Exception as error:
            await circuit.close()
            raise PeerUnreachable("The peer does not answer through its relay.") from error

    async def serve_stop(self, stream: ByteStream, relay: PeerId) -> None:
        """A relay brings a circuit: take it, for as long as it lasts. Registered for the stop protocol."""
        try:
            asked, rest = await receive_frame_and_rest(stream, pb.StopMessage)
            status = self._verdict(asked, relay)
            await send_frame(stream, pb.StopMessage(type=pb.StopMessage.STATUS, status=status))
            if status != pb.Status.OK:
                await stream.close()
                return
            source = PeerId(str(ID(asked.peer.id)))
        except (StreamBroken, CircuitFault) as error:
            log.debug("a circuit by %s was not taken: %s", relay, error)
            return
        self._taken += 1
        try:
            raw = _raw(Circuit(stream, rest), relay=relay, peer=source, is_initiator=False)
            muxed = await self._network.upgrade_inbound_raw_conn(raw, Multiaddr(f"/p2p/{relay}/p2p-circuit"))
            self._on_taken(PeerId(str(muxed.peer_id)))
            await muxed.event_closed.wait()
        finally:
            self._taken -= 1

    def _verdict(self, asked: pb.StopMessage, relay: PeerId) -> pb.Status.ValueType:
        if asked.type != pb.StopMessage.CONNECT or not asked.peer.id:
            return pb.Status.MALFORMED_MESSAGE
        if relay not in {held.relay for held in self.reservations()}:
            return pb.Status.PERMISSION_DENIED
        return pb.Status.RESOURCE_LIMIT_EXCEEDED if self._taken >= MAX_CIRCUITS_IN else pb.Status.OK

    async def _ask(self, relay: PeerId, question: pb.HopMessage) -> tuple[pb.HopMessage, Circuit]:
        """The relay's answer, when it is yes, and what the stream is then."""
        stream = await self._open_stream(relay, HOP)
        try:
            with trio.fail_after(ANSWER_S):
                await send_frame(stream, question)
                answer, rest = await receive_frame_and_rest(stream, pb.HopMessage)
            if answer.type != pb.HopMessage.STATUS or answer.status != pb.Status.OK:
                raise PeerUnreachable(f"The relay refused: {_status_name(answer.status)}.")
        except (StreamBroken, CircuitFault, trio.TooSlowError) as error:
            await stream.reset()
            raise PeerUnreachable("The relay does not answer as a relay does.") from error
        except BaseException:
            await stream.reset()
            raise
        if question.type == pb.HopMessage.RESERVE:
            await stream.reset()
        return answer, Circuit(stream, rest)


class Circuit:
    """A stream to a relay as libp2p wants a connection's bytes: short reads, whole writes, one close."""

    def __init__(self, stream: ByteStream, arrived: bytes) -> None:
        self._stream = stream
        self._arrived = arrived

    async def read(self, n: int | None = None) -> bytes:
        """At most n bytes, or b"" at the end. Raises ConnectionClosedError."""
        if n == 0:
            return b""
        if not self._arrived:
            try:
                self._arrived = await self._stream.read()
            except StreamBroken as error:
                raise ConnectionClosedError(str(error), transport="circuit") from error
        size = len(self._arrived) if n is None or n < 0 else n
        taken, self._arrived = self._arrived[:size], self._arrived[size:]
        return taken

    async def write(self, data: bytes) -> None:
        """All of it. Raises ConnectionClosedError."""
        try:
            await self._stream.write(data)
        except StreamBroken as error:
            raise ConnectionClosedError(str(error), transport="circuit") from error

    async def close(self) -> None:
        """Let go, both ways: a stream that is closed one way only would keep its place at the relay."""
        await self._stream.reset()

    def get_remote_address(self) -> tuple[str, int] | None:
        """None: whoever is at the other end of a circuit has no address here."""
        return None


def _raw(circuit: Circuit, *, relay: PeerId, peer: PeerId, is_initiator: bool) -> RawConnection:
    address = Multiaddr(f"/p2p/{relay}/p2p-circuit/p2p/{peer}")
    return RawConnection(circuit, is_initiator, ConnectionType.RELAYED, [address])


def _status_name(status: pb.Status.ValueType) -> str:
    try:
        return pb.Status.Name(status).lower().replace("_", " ")
    except ValueError:
        return f"status {status}"
