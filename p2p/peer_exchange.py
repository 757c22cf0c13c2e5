"""Peers tell each other whom they know: the answering and the asking end of the peers protocol, and when to ask.

Bounded in size, count and rate. Never raises into the swarm, never hands on a record that its peer has not signed or
that nobody has seen alive, and never lets one teller fill the book.
"""

from __future__ import annotations

import logging
import random
from typing import Protocol

import trio

from core.framing import encode_frame
from core.job import PeerId
from p2p.address_book import AddressBook, Heard, Source
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.one_message import receive_message
from p2p.peer_address import group_of, ip_of, worth_trying
from p2p.peer_choice import Link
from p2p.peer_messages import MAX_PEERS_BYTES, MAX_QUESTION_BYTES, MAX_RECORDS, PEERS_PROTOCOL, GetPeers, Peers
from p2p.peer_record import SignedRecord, record_fault
from p2p.protocol_error import RemoteProtocolError
from p2p.swarm_errors import PeerUnreachable

QUESTION_S = 5.0
ANSWER_S = 10.0
HANG_UP_S = 2.0
ENOUGH_KNOWN = 64
FIRST_PAUSE_S = 1.0
ASK_EVERY_S = 1_800.0
ASKED_AT_ONCE = 3
ANSWERS_A_MINUTE_AND_PEER = 4
ANSWERS_A_MINUTE = 240
WANTED = 16

log = logging.getLogger(__name__)


class Neighbours(Protocol):
    """What the exchange needs of the swarm."""

    book: AddressBook

    @property
    def peer_id(self) -> PeerId:
        """Our id."""

    def links(self) -> tuple[Link, ...]:
        """Who is connected."""

    def record(self) -> SignedRecord:
        """Our own record."""

    def now(self) -> float:
        """Seconds since the epoch."""

    async def open(self, peer_id: PeerId, protocol: str) -> ByteStream:
        """A stream to this peer. Raises PeerUnreachable."""

    async def wait_change(self) -> None:
        """Until somebody has come or gone."""

    def look_again(self) -> None:
        """Somebody new is in the book."""


class PeerExchange:
    """One a stay in the swarm. swarm: the network's id."""

    def __init__(self, neighbours: Neighbours, *, swarm: str) -> None:
        self._neighbours = neighbours
        self._swarm = swarm
        self._minute = 0
        self._answered: dict[PeerId, int] = {}

    async def serve(self, stream: ByteStream, peer: PeerId) -> None:
        """Answer the one question of this stream; a peer that asks too often gets no answer."""
        try:
            question: GetPeers = await receive_message(
                stream, GetPeers, most=MAX_QUESTION_BYTES, within_s=QUESTION_S
            )
            if not self._is_allowed(peer):
                return
            await stream.write(encode_frame(Peers(self._told(peer, most=question.most))))
            await stream.close()
            with trio.move_on_after(HANG_UP_S):
                await stream.read()
        except (StreamBroken, RemoteProtocolError) as error:
            log.debug("a question for peers from %s ended: %s", peer, error)

    async def run(self) -> None:
        """Ask those we are connected to: at once and often while that brings news, seldom later; until cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            while not (links := self._neighbours.links()):
                pause_s = FIRST_PAUSE_S
                await self._neighbours.wait_change()
            is_eager = len(self._neighbours.book) < ENOUGH_KNOWN
            new = await self._ask_some(list(links), most=ASKED_AT_ONCE if is_eager else 1)
            pause_s = FIRST_PAUSE_S if new and is_eager else min(2 * pause_s, ASK_EVERY_S)
            await trio.sleep(pause_s * random.uniform(0.75, 1.25))

    async def _ask_some(self, links: list[Link], *, most: int) -> int:
        """How many records were new to us, of all that a few neighbours told."""
        counts: list[int] = []

        async def count(link: Link) -> None:
            counts.append(await self.ask(link))

        async with trio.open_nursery() as nursery:
            for link in random.sample(links, min(len(links), most)):
                nursery.start_soon(count, link)
        return sum(counts)

    async def ask(self, link: Link) -> int:
        """Take what this peer knows; how many records were new to us. Never raises for what the peer does."""
        try:
            with trio.fail_after(ANSWER_S):
                answer = await _question(await self._neighbours.open(link.peer_id, PEERS_PROTOCOL))
        except (PeerUnreachable, StreamBroken, RemoteProtocolError, trio.TooSlowError) as error:
            log.debug("%s did not tell whom it knows: %s", link.peer_id, error)
            return 0
        new = self._believe(answer, link)
        if new:
            self._neighbours.look_again()
        return new

    def _believe(self, answer: Peers, link: Link) -> int:
        now, book = self._neighbours.now(), self._neighbours.book
        teller = group_of(ip_of(link.address)) or link.peer_id
        new = 0
        for signed in answer.records[:MAX_RECORDS]:
            peer = PeerId(signed.record.peer_id)
            known = book.get(peer)
            if peer == self._neighbours.peer_id or known is not None and known.record == signed:
                continue
            if fault := record_fault(signed, swarm=self._swarm, now=now):
                log.debug("a record from %s is not believed: %s", link.peer_id, fault)
                return new  # whoever hands on what he could have checked is not heard further
            addresses = worth_trying(signed.record.addresses, told_from=link.address)
            is_kept = book.hear(Heard(peer, addresses, Source.EXCHANGE, teller=teller, record=signed), now=now)
            new += is_kept and known is None
        return new

    def _told(self, asker: PeerId, *, most: int) -> tuple[SignedRecord, ...]:
        """Our own record, and a draw of those that are alive."""
        now = self._neighbours.now()
        alive = {link.peer_id for link in self._neighbours.links()}
        found = [r for r in self._neighbours.book.records(now=now, alive=alive) if r.record.peer_id != asker]
        room = max(0, min(most, MAX_RECORDS) - 1)
        return (self._neighbours.record(), *random.sample(found, min(room, len(found))))

    def _is_allowed(self, peer: PeerId) -> bool:
        minute = int(trio.current_time() // 60)
        if minute != self._minute:
            self._minute, self._answered = minute, {}
        asked = self._answered.get(peer, 0)
        if asked >= ANSWERS_A_MINUTE_AND_PEER or sum(self._answered.values()) >= ANSWERS_A_MINUTE:
            return False
        self._answered[peer] = asked + 1
        return True


async def _question(stream: ByteStream) -> Peers:
    try:
        await stream.write(encode_frame(GetPeers(WANTED)))
        await stream.close()
        answer: Peers = await receive_message(stream, Peers, most=MAX_PEERS_BYTES, within_s=ANSWER_S)
        return answer
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + HANG_UP_S):
            await stream.reset()
