"""Questions and answers between two peers over a stream in memory."""

from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import MockClock

from core.framing import encode_frame
from core.job import PeerId
from p2p.byte_stream import StreamBroken
from p2p.identity import Identity
from p2p.messages import GetOffers, Offers, Ping, Pong, Query, QueryAnswer, SignedOffer, Tell, offer_bytes
from p2p.offer_book import OfferBook
from p2p.protocol_error import RemoteProtocolError
from p2p.query_stream import QUERIES_A_SECOND, QueryDesk, ask
from p2p.trust import Fault, Report
from tests.p2p.fakes import an_offer, stream_pair

ASKER = Identity(b"\x01" * 32)
OTHER = Identity(b"\x02" * 32)
NOW = 1_000_000_000.0


def signed(identity: Identity, model: str = "tiny") -> SignedOffer:
    offer = an_offer(identity.peer_id, model=model, expires_at=NOW + 100)
    return SignedOffer(offer, identity.sign(offer_bytes(offer)))


def a_desk(book: OfferBook, *own: SignedOffer, report: Report = lambda peer, fault: None) -> QueryDesk:
    mine = OfferBook()
    for offer in own:
        mine.add(offer, now=NOW)
    return QueryDesk(book, lambda: mine, clock=lambda: NOW, report=report)


async def answer(desk: QueryDesk, query: Query, peer: PeerId = ASKER.peer_id) -> QueryAnswer:
    ours, theirs = stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.serve, theirs, peer)
        return await ask(ours, query)


async def test_own_and_known_offers_are_given_by_model(autojump_clock: MockClock) -> None:
    book = OfferBook()
    book.add(signed(OTHER), now=NOW)
    desk = a_desk(book, signed(ASKER), signed(ASKER, "big"))
    assert await answer(desk, GetOffers("tiny")) == Offers((signed(ASKER), signed(OTHER)))
    assert await answer(desk, GetOffers("none")) == Offers(())
    everything = await answer(desk, GetOffers())
    assert isinstance(everything, Offers)
    assert len(everything.offers) == 3


async def test_a_ping_is_answered_with_what_we_serve(autojump_clock: MockClock) -> None:
    assert await answer(a_desk(OfferBook(), signed(ASKER)), Ping(7)) == Pong(7, ("tiny",))


async def test_a_peer_tells_of_its_own_offers_only(autojump_clock: MockClock) -> None:
    book = OfferBook()
    assert await answer(a_desk(book), Tell((signed(ASKER), signed(OTHER)))) == Pong()
    assert book.find(None, now=NOW) == [signed(ASKER)]


async def test_a_peer_over_its_rate_gets_no_answer(autojump_clock: MockClock) -> None:
    desk = a_desk(OfferBook())
    for _ in range(QUERIES_A_SECOND):
        await answer(desk, Ping())
    with pytest.raises(BaseExceptionGroup) as caught:
        await answer(desk, Ping())
    assert caught.group_contains((StreamBroken, RemoteProtocolError))
    assert await answer(desk, Ping(), OTHER.peer_id) == Pong()


async def test_a_peer_that_tells_too_often_is_hung_up_on_and_counted(autojump_clock: MockClock) -> None:
    heard: list[tuple[PeerId, Fault]] = []
    desk = a_desk(OfferBook(), report=lambda peer, fault: heard.append((peer, fault)))
    for _ in range(4):
        assert await answer(desk, Tell((signed(ASKER),))) == Pong()
    with pytest.raises(BaseExceptionGroup):
        await answer(desk, Tell((signed(ASKER),)))
    assert heard == [(ASKER.peer_id, Fault.TOO_OFTEN)]
    assert await answer(desk, Ping(1)) == Pong(1)


async def test_an_offer_that_its_peer_takes_back_is_gone(autojump_clock: MockClock) -> None:
    book = OfferBook()
    desk = a_desk(book)
    await answer(desk, Tell((signed(ASKER),)))
    over = msgspec.structs.replace(signed(ASKER).offer, expires_at=NOW, sequence=1)
    ended = SignedOffer(over, ASKER.sign(offer_bytes(over)))
    await answer(desk, Tell((ended,)), OTHER.peer_id)
    assert len(book) == 1  # nobody ends another's offer
    await answer(desk, Tell((ended,)))
    assert len(book) == 0


async def test_garbage_is_blamed_on_its_sender(autojump_clock: MockClock) -> None:
    ours, theirs = stream_pair()
    await ours.write(b"\xff" * 9)
    await a_desk(OfferBook()).serve(theirs, ASKER.peer_id)
    assert theirs.blamed == 1


@pytest.mark.parametrize("garbage", [b"\xff" * 9, b"\x02{}", encode_frame(Pong()), b""])
async def test_garbage_gets_no_answer_and_no_exception(garbage: bytes, autojump_clock: MockClock) -> None:
    ours, theirs = stream_pair()
    if garbage:
        await ours.write(garbage)
    await ours.close()
    await a_desk(OfferBook()).serve(theirs, ASKER.peer_id)


async def test_a_silent_answerer_is_given_up(autojump_clock: MockClock) -> None:
    ours, _theirs = stream_pair()
    with pytest.raises(StreamBroken, match="said nothing for 10 seconds"):
        await ask(ours, Ping())


async def test_a_wrong_answer_is_a_remote_fault(autojump_clock: MockClock) -> None:
    ours, theirs = stream_pair()
    await theirs.write(encode_frame(Ping()))
    with pytest.raises(RemoteProtocolError):
        await ask(ours, Ping())
