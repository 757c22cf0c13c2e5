"""One question and one answer on a stream of the query protocol, at either end.

Never raises into the swarm from the answering end. Offers that come in are checked by the book before anyone sees them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from core.framing import encode_frame
from core.job import PeerId
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.messages import (
    MAX_ANSWER_FRAME_BYTES,
    MAX_OFFERS,
    MAX_OFFERS_A_PEER,
    MAX_QUERY_FRAME_BYTES,
    VERSION,
    GetOffers,
    Offers,
    Ping,
    Pong,
    Query,
    QueryAnswer,
    SignedOffer,
    Tell,
)
from p2p.offer_book import OfferBook
from p2p.one_message import receive_message
from p2p.protocol_error import RemoteProtocolError
from p2p.token_bucket import Rate, TokenBuckets
from p2p.trust import Fault, Report

FIRST_FRAME_S = 5.0
QUERY_S = 10.0
HANG_UP_S = 2.0
QUERIES_A_SECOND = 20
EACH_PEER = Rate(per_s=QUERIES_A_SECOND, burst=QUERIES_A_SECOND)
ALL_PEERS = Rate(per_s=10 * QUERIES_A_SECOND, burst=20 * QUERIES_A_SECOND)
TOLD_BY_EACH = Rate(per_s=2.0, burst=4.0)
TOLD_BY_ALL = Rate(per_s=50.0, burst=200.0)

log = logging.getLogger(__name__)


class QueryDesk:
    """Answers queries out of an offer book. clock is seconds since the epoch; report hears of who asks too often."""

    def __init__(
        self, book: OfferBook, own: Callable[[], OfferBook], *, clock: Callable[[], float], report: Report
    ) -> None:
        self._book = book
        self._own = own
        self._clock = clock
        self._report = report
        self._asked = TokenBuckets(EACH_PEER, ALL_PEERS)
        self._told = TokenBuckets(TOLD_BY_EACH, TOLD_BY_ALL)

    async def serve(self, stream: ByteStream, peer: PeerId) -> None:
        """Answer the one question of this stream."""
        try:
            query = await receive_message(stream, Query, most=MAX_QUERY_FRAME_BYTES, within_s=FIRST_FRAME_S)
            if not self._is_allowed(query, peer):
                return
            await stream.write(encode_frame(self._answer(query, peer)))
            await stream.close()
            with trio.move_on_after(HANG_UP_S):
                await stream.read()
        except (StreamBroken, RemoteProtocolError) as error:
            log.debug("a query from %s ended: %s", peer, error)

    def _answer(self, query: Query, peer: PeerId) -> QueryAnswer:
        now = self._clock()
        match query:
            case GetOffers(model=model):
                found = self._own().find(model, now=now) + self._book.find(model, now=now)
                return Offers(tuple(found[:MAX_OFFERS]))
            case Tell(offers=offers):
                for signed in offers[:MAX_OFFERS_A_PEER]:
                    if signed.offer.peer_id == peer:
                        self._hear(signed, now)
                return Pong()
            case Ping(number=number):
                return Pong(number, tuple(signed.offer.model for signed in self._own().find(None, now=now)))

    def _hear(self, signed: SignedOffer, now: float) -> None:
        is_over = signed.offer.expires_at <= now
        _ = self._book.end(signed, now=now) if is_over else self._book.add(signed, now=now)

    def _is_allowed(self, query: Query, peer: PeerId) -> bool:
        """A peer over its rate gets no answer."""
        buckets = self._told if isinstance(query, Tell) else self._asked
        turn = buckets.take(peer, now=self._clock())
        if turn.is_own:
            self._report(peer, Fault.TOO_OFTEN)
        return turn.wait_s == 0.0


async def ask(stream: ByteStream, query: Query) -> QueryAnswer:
    """The answer to one question; lets go of the stream. Raises StreamBroken, RemoteProtocolError."""
    try:
        await stream.write(encode_frame(query))
        await stream.close()
        answer: QueryAnswer = await receive_message(
            stream, QueryAnswer, most=MAX_ANSWER_FRAME_BYTES, within_s=QUERY_S
        )
        return answer
    finally:
        await stream.reset()


def offers_of(model: str | None) -> GetOffers:
    """The question for offers."""
    return GetOffers(model, VERSION)
