"""The first words on every connection: which swarm are you of, and what does your clock say?

A peer of another swarm is refused from then on, and let go. Never raises into the swarm from the answering end.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec
import trio

from core.framing import encode_frame
from core.job import PeerId
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.one_message import receive_message
from p2p.peer_messages import HELLO_PROTOCOL, MAX_HELLO_BYTES, VERSION, Hello
from p2p.peer_record import SignedRecord
from p2p.protocol_error import RemoteProtocolError
from p2p.swarm_errors import OtherNetwork, PeerUnreachable

HELLO_S = 5.0
FOREIGN_S = 600.0
MAX_FOREIGN = 1_024

log = logging.getLogger(__name__)


class Greeted(msgspec.Struct, frozen=True):
    """What a peer of our swarm said; skew_s: how far its clock is ahead of ours."""

    peer_id: PeerId
    skew_s: float
    record: SignedRecord | None


class GreetingPorts(msgspec.Struct, frozen=True):
    """open: a stream to a connected peer; let_go: close the connection to it; greeted: called with each peer of our
    swarm that said hello; record: our own; clock: seconds since the epoch, uncorrected."""

    open: Callable[[PeerId, str], Awaitable[ByteStream]]
    let_go: Callable[[PeerId], Awaitable[None]]
    greeted: Callable[[Greeted], None]
    record: Callable[[], SignedRecord]
    clock: Callable[[], float]


class Greeter:
    """Both ends of the hello protocol for one swarm."""

    def __init__(self, swarm: str, ports: GreetingPorts) -> None:
        self._swarm = swarm
        self._ports = ports
        self._done: dict[PeerId, trio.Event] = {}
        self._foreign: dict[PeerId, float] = {}

    def is_foreign(self, peer_id: PeerId) -> bool:
        """Whether this peer said, not long ago, that it is of another swarm."""
        return trio.current_time() < self._foreign.get(peer_id, 0.0)

    def forget(self, connected: set[PeerId]) -> None:
        """Whoever is gone says hello anew when it comes again."""
        self._done = {peer: done for peer, done in self._done.items() if peer in connected or not done.is_set()}

    async def greet(self, peer_id: PeerId) -> None:
        """Say hello to a peer that we dialled, once a connection; later ones wait for the first. Raises OtherNetwork. A
        peer that does not know the protocol is let be: what it signs for its own contracts is no good here."""
        if self.is_foreign(peer_id):
            await self._ports.let_go(peer_id)
            raise OtherNetwork
        if (done := self._done.get(peer_id)) is not None:
            await done.wait()
        else:
            done = self._done[peer_id] = trio.Event()
            try:
                await self._say(peer_id)
            finally:
                done.set()
        if self.is_foreign(peer_id):
            raise OtherNetwork

    async def serve(self, stream: ByteStream, peer: PeerId) -> None:
        """Answer a hello."""
        try:
            theirs = await receive_message(stream, Hello, most=MAX_HELLO_BYTES, within_s=HELLO_S)
            await stream.write(encode_frame(self._hello()))
            await stream.close()
            self._take(theirs, peer, skew_s=theirs.at - self._ports.clock())
            done = self._done.setdefault(peer, trio.Event())
            done.set()
            with trio.move_on_after(HELLO_S):
                await stream.read()
        except (StreamBroken, RemoteProtocolError) as error:
            log.debug("the hello of %s ended: %s", peer, error)
        if self.is_foreign(peer):
            await self._ports.let_go(peer)

    async def _say(self, peer_id: PeerId) -> None:
        try:
            with trio.fail_after(HELLO_S):
                stream = await self._ports.open(peer_id, HELLO_PROTOCOL)
                theirs, midway = await self._exchange(stream)
        except (PeerUnreachable, StreamBroken, RemoteProtocolError, trio.TooSlowError) as error:
            log.debug("%s said no hello: %s", peer_id, error)
            return
        self._take(theirs, peer_id, skew_s=theirs.at - midway)
        if self.is_foreign(peer_id):
            await self._ports.let_go(peer_id)

    async def _exchange(self, stream: ByteStream) -> tuple[Hello, float]:
        try:
            asked_at = self._ports.clock()
            await stream.write(encode_frame(self._hello()))
            await stream.close()
            theirs: Hello = await receive_message(stream, Hello, most=MAX_HELLO_BYTES, within_s=HELLO_S)
            return theirs, (asked_at + self._ports.clock()) / 2
        finally:
            await stream.reset()

    def _take(self, theirs: Hello, peer: PeerId, *, skew_s: float) -> None:
        if theirs.swarm == self._swarm and theirs.version == VERSION:
            self._foreign.pop(peer, None)
            self._ports.greeted(Greeted(peer, skew_s, theirs.record))
            return
        log.info("%s belongs to another network", peer)
        self._foreign[peer] = trio.current_time() + FOREIGN_S
        if len(self._foreign) > MAX_FOREIGN:
            del self._foreign[next(iter(self._foreign))]

    def _hello(self) -> Hello:
        return Hello(self._swarm, self._ports.clock(), self._ports.record())
