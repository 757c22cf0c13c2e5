"""Peers tell each other of their speeds: the answering and the asking end of the rows protocol, and when to ask.

Never raises into the swarm, never believes a row that the book has not checked, and says nothing of this machine unless
its owner shares.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import trio

from core.framing import encode_frame
from core.job import PeerId
from core.metamodel.federation import MAX_ROWS, SharedRow
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.identity import Identity
from p2p.one_message import receive_message
from p2p.protocol_error import RemoteProtocolError
from p2p.row_book import STALE, RowBook
from p2p.row_messages import (
    MAX_QUESTION_BYTES,
    MAX_ROWS_BYTES,
    MAX_SETS,
    ROWS_PROTOCOL,
    UNSIGNED,
    GetRows,
    Rows,
    SignedRows,
    rows_bytes,
)
from p2p.swarm_errors import PeerUnreachable

QUESTION_S = 5.0
ANSWER_S = 15.0
HANG_UP_S = 2.0
FIRST_AFTER_S = 20.0
ASK_EVERY_S = 900.0
MAX_ASKED = 3
ANSWERS_A_MINUTE = 30
DAY_S = 86_400

log = logging.getLogger(__name__)


class Peers(Protocol):
    """What the exchange needs of the swarm."""

    def peers(self) -> tuple[PeerId, ...]:
        """Who is connected."""

    async def open(self, peer_id: PeerId, protocol: str) -> ByteStream:
        """A stream to this peer. Raises PeerUnreachable."""


class RowPorts(msgspec.Struct, frozen=True):
    """own: what this machine shares now (nothing, where its owner does not); kept: called with each set that is
    believed, to keep it over restarts; clock: seconds since the epoch."""

    own: Callable[[], tuple[SharedRow, ...]]
    kept: Callable[[SignedRows], Awaitable[None]]
    clock: Callable[[], float]


class RowExchange:
    """One a stay in the swarm. Everything heard goes into the book."""

    def __init__(self, identity: Identity, book: RowBook, *, ports: RowPorts, shares: bool) -> None:
        self._identity = identity
        self._book = book
        self._ports = ports
        self._shares = shares
        self._minute = 0
        self._answered: set[PeerId] = set()

    async def serve(self, stream: ByteStream, peer: PeerId) -> None:
        """Answer the one question of this stream; a peer that asks twice in a minute gets no answer."""
        try:
            await receive_message(stream, GetRows, most=MAX_QUESTION_BYTES, within_s=QUESTION_S)
            if not self._is_allowed(peer):
                return
            await stream.write(encode_frame(self._answer()))
            await stream.close()
            with trio.move_on_after(HANG_UP_S):
                await stream.read()
        except (StreamBroken, RemoteProtocolError) as error:
            log.debug("a question for rows from %s ended: %s", peer, error)

    async def run(self, peers: Peers) -> None:
        """Ask a few connected peers now and then, until cancelled."""
        await trio.sleep(FIRST_AFTER_S)
        while True:
            known = [peer for peer in peers.peers() if peer != self._identity.peer_id]
            for peer in random.sample(known, min(MAX_ASKED, len(known))):
                await self.ask(peers, peer)
            await trio.sleep(ASK_EVERY_S * random.uniform(0.75, 1.25))

    async def ask(self, peers: Peers, peer: PeerId) -> int:
        """Take what this peer knows; how many sets were believed. Never raises for what the peer does."""
        try:
            with trio.fail_after(ANSWER_S):
                stream = await peers.open(peer, ROWS_PROTOCOL)
                answer = await _question(stream)
        except (PeerUnreachable, StreamBroken, RemoteProtocolError, trio.TooSlowError) as error:
            log.debug("%s did not tell its rows: %s", peer, error)
            return 0
        return await self._believe(answer, stream, peer=peer)

    async def _believe(self, answer: Rows, stream: ByteStream, *, peer: PeerId) -> int:
        today, before = self._today(), {signed.peer_id: signed for signed in self._book.newest(len(self._book))}
        believed = 0
        for signed in answer.sets[:MAX_SETS]:
            if signed.peer_id == self._identity.peer_id or before.get(signed.peer_id) == signed:
                continue
            if (fault := self._book.add(signed, today=today)) == STALE:
                continue
            if fault is not None:
                log.debug("rows from %s are not believed: %s", peer, fault)
                if fault == UNSIGNED:
                    stream.blame()
                return believed  # whoever hands on what he could have checked is not heard further
            believed += 1
            await self._ports.kept(signed)
        return believed

    def _answer(self) -> Rows:
        if not self._shares:
            return Rows(())
        own = self._ports.own()[:MAX_ROWS]
        mine = (self._signed(own),) if own else ()
        return Rows((*mine, *self._book.newest(MAX_SETS - 1)))

    def _signed(self, rows: tuple[SharedRow, ...]) -> SignedRows:
        unsigned = SignedRows(self._identity.peer_id, self._today(), rows)
        return msgspec.structs.replace(unsigned, signature=self._identity.sign(rows_bytes(unsigned)))

    def _is_allowed(self, peer: PeerId) -> bool:
        minute = int(self._ports.clock() // 60)
        if minute != self._minute:
            self._minute, self._answered = minute, set()
        if peer in self._answered or len(self._answered) >= ANSWERS_A_MINUTE:
            return False
        self._answered.add(peer)
        return True

    def _today(self) -> int:
        return int(self._ports.clock() // DAY_S)


async def _question(stream: ByteStream) -> Rows:
    try:
        await stream.write(encode_frame(GetRows()))
        await stream.close()
        answer: Rows = await receive_message(stream, Rows, most=MAX_ROWS_BYTES, within_s=ANSWER_S)
        return answer
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + HANG_UP_S):
            await stream.reset()
