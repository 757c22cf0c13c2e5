"""The relay itself: the hop end of libp2p's circuit relay v2 (libp2p specs, relay/circuit-v2), over our own streams.

Carries bytes that it cannot read between two peers, within the book's limits. Stock's server is not used: it carries
without a deadline, counts bytes after they have gone, and keeps no limit a peer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial

import trio
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb

from core.job import PeerId
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.libp2p_adapter.circuit_frames import STOP, CircuitFault, receive_frame, receive_frame_and_rest, send_frame
from p2p.libp2p_adapter.swarm_stream import SwarmStream
from p2p.relay_book import Refusal, RelayBook
from p2p.swarm_errors import PeerUnreachable

ANSWER_S = 10.0
OpenStream = Callable[[PeerId, str], Awaitable[ByteStream]]
Status = pb.Status
STATUS_OF = {Refusal.FULL: Status.RESOURCE_LIMIT_EXCEEDED, Refusal.NO_RESERVATION: Status.NO_RESERVATION}

log = logging.getLogger(__name__)


class Relay:
    """Answers the hop protocol. open_stream: to a connected peer; seen_at: the IP address of a connected peer."""

    def __init__(self, book: RelayBook, *, open_stream: OpenStream, seen_at: Callable[[PeerId], str]) -> None:
        self._book = book
        self._open_stream = open_stream
        self._seen_at = seen_at

    async def serve(self, stream: ByteStream, peer: PeerId) -> None:
        """Answer one question; a circuit lasts as long as this call."""
        try:
            asked = await receive_frame(stream, pb.HopMessage)
            if isinstance(stream, SwarmStream) and stream.is_relayed:
                await _answer(stream, Status.PERMISSION_DENIED)
            elif asked.type == pb.HopMessage.RESERVE:
                await self._reserve(stream, peer)
            elif asked.type == pb.HopMessage.CONNECT:
                await self._connect(stream, source=peer, target=PeerId(str(ID(asked.peer.id))))
            else:
                await _answer(stream, Status.UNEXPECTED_MESSAGE)
        except CircuitFault:
            await _answer(stream, Status.MALFORMED_MESSAGE)
        except StreamBroken as error:
            log.debug("a circuit of %s ended: %s", peer, error)

    async def _reserve(self, stream: ByteStream, peer: PeerId) -> None:
        if not self._book.reserve(peer, ip=self._seen_at(peer), now=trio.current_time()):
            await _answer(stream, Status.RESERVATION_REFUSED)
            return
        limits = self._book.limits
        answer = pb.HopMessage(type=pb.HopMessage.STATUS, status=Status.OK, limit=self._limit())
        answer.reservation.expire = int(time.time()) + limits.reservation_s
        await send_frame(stream, answer)
        await stream.close()

    async def _connect(self, stream: ByteStream, *, source: PeerId, target: PeerId) -> None:
        refusal = self._book.open(source, target=target, now=trio.current_time())
        if refusal is not None:
            await _answer(stream, STATUS_OF[refusal])
            return
        far: ByteStream | None = None
        try:
            far, first = await self._reach(source, target)
            if far is None:
                await _answer(stream, Status.CONNECTION_FAILED)
                return
            await send_frame(stream, pb.HopMessage(type=pb.HopMessage.STATUS, status=Status.OK, limit=self._limit()))
            if first:
                await stream.write(first)
            await self._carry(stream, far)
        finally:
            self._book.close(source, target=target)
            if far is not None:
                await far.reset()

    async def _reach(self, source: PeerId, target: PeerId) -> tuple[ByteStream | None, bytes]:
        """A stream on which the target has agreed to take this circuit, or None; and what it has said to the source at
        once: whoever is dialled speaks first."""
        stream = None
        try:
            with trio.fail_after(ANSWER_S):
                stream = await self._open_stream(target, STOP)
                asked = pb.StopMessage(type=pb.StopMessage.CONNECT, limit=self._limit())
                asked.peer.id = ID.from_base58(source).to_bytes()
                await send_frame(stream, asked)
                answer, rest = await receive_frame_and_rest(stream, pb.StopMessage)
            if answer.type == pb.StopMessage.STATUS and answer.status == Status.OK:
                return stream, rest
        except (PeerUnreachable, StreamBroken, CircuitFault, trio.TooSlowError) as error:
            log.debug("%s takes no circuit: %s", target, error)
        if stream is not None:
            await stream.reset()
        return None, b""

    async def _carry(self, near: ByteStream, far: ByteStream) -> None:
        """Both ways until either end ends, or the limit of bytes or time is reached."""
        budget = _Budget(self._book)
        with trio.move_on_after(self._book.limits.circuit_s):
            async with trio.open_nursery() as nursery:
                for source, target in ((near, far), (far, near)):
                    nursery.start_soon(
                        partial(_pass_on, source, target, budget=budget, scope=nursery.cancel_scope)
                    )

    def _limit(self) -> pb.Limit:
        return pb.Limit(duration=self._book.limits.circuit_s, data=self._book.limits.circuit_bytes)


class _Budget:
    """What one circuit may carry: bytes in all, and bytes a second on average, with one second's worth at once."""

    def __init__(self, book: RelayBook) -> None:
        self._book = book
        self._left = book.limits.circuit_bytes
        self._free_at = trio.current_time()

    async def spend(self, count: int) -> bool:
        """Wait until so many bytes may go; False when they may not."""
        self._left -= count
        if self._left < 0:
            return False
        now = trio.current_time()
        self._free_at = max(self._free_at, now - 1.0) + count / self._book.limits.bytes_per_s
        self._book.carried(count)
        if self._free_at > now:
            await trio.sleep(self._free_at - now)
        return True


async def _pass_on(source: ByteStream, target: ByteStream, *, budget: _Budget, scope: trio.CancelScope) -> None:
    try:
        while received := await source.read():
            if not await budget.spend(len(received)):
                break
            await target.write(received)
    except StreamBroken as error:
        log.debug("a circuit ended: %s", error)
    scope.cancel()


async def _answer(stream: ByteStream, status: Status.ValueType) -> None:
    try:
        await send_frame(stream, pb.HopMessage(type=pb.HopMessage.STATUS, status=status))
        await stream.close()
    except StreamBroken as error:
        log.debug("an answer was not taken: %s", error)

