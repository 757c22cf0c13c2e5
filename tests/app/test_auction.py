"""Several peers are asked at once: one is paid, the others are let go, and the user hears the winner alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio
from trio.testing import MockClock

from app.auction import LOST, Auction
from app.job_round import JobRound, RoundPorts
from core.job import JobRequest, JobState, PeerId, Usage, charge
from core.offer import Quote, Reject
from core.payments.voucher import Party
from p2p.byte_stream import ByteStream
from p2p.candidates import Picked
from p2p.identity import Identity
from p2p.job_request import JobOver, JobText, JobUpdate
from p2p.messages import SignedOffer
from p2p.swarm_errors import PeerUnreachable
from p2p.trust import Fault, Trust
from tests.p2p.fakes import (
    NOW,
    PRICE,
    PROMPT_TOKENS,
    FakeHost,
    FakePayer,
    a_quote,
    a_request,
    an_offer,
    sales_of,
    stream_pair,
)

ASKER = Identity(b"\x08" * 32).peer_id


class Seller(FakeHost):
    """Quotes a time to the first token, after a while."""

    def __init__(self, ttft_s: float, *, thinks_s: float = 0.0, refusal: str = "") -> None:
        super().__init__([f"{ttft_s} "] * 10, refusal=refusal)
        self.ttft_s = ttft_s
        self.thinks_s = thinks_s

    async def quote(self, request: JobRequest, payer: Party, *, peer: PeerId) -> Quote | Reject:
        await trio.sleep(self.thinks_s)
        quote = await super().quote(request, payer, peer=peer)
        return quote if isinstance(quote, Reject) else msgspec.structs.replace(quote, ttft_p90_s=self.ttft_s)


class Shop:
    """Sellers without a network between."""

    def __init__(self, *sellers: Seller | None) -> None:
        self.identities = [Identity(bytes([20 + number]) * 32) for number in range(len(sellers))]
        self.sellers = dict(zip((identity.peer_id for identity in self.identities), sellers, strict=True))
        self.payer, self.trust, self.heard = FakePayer(), Trust(), list[JobUpdate]()
        self.faults: list[tuple[PeerId, Fault]] = []

    @asynccontextmanager
    async def round(self, on_trial: int | None = None) -> AsyncIterator[JobRound]:
        async with trio.open_nursery() as nursery:
            sales = {}
            for identity in self.identities:
                if (seller := self.sellers[identity.peer_id]) is not None:
                    sales[identity.peer_id] = sales_of(seller, identity)
                    await nursery.start(sales[identity.peer_id].run)

            async def reach(signed: SignedOffer) -> ByteStream:
                if (sale := sales.get(PeerId(signed.offer.peer_id))) is None:
                    raise PeerUnreachable("The peer does not answer.")
                ours, theirs = stream_pair()
                nursery.start_soon(sale.serve, theirs, ASKER)
                return ours

            offers = tuple(SignedOffer(an_offer(identity.peer_id), "") for identity in self.identities)
            trial = self.identities[on_trial].peer_id if on_trial is not None else None
            ports = RoundPorts(reach, self.payer, self.trust, lambda p, f: self.faults.append((p, f)), lambda: NOW)
            yield JobRound(a_request(), Picked(offers, trial), ports=ports)
            nursery.cancel_scope.cancel()

    async def run(self, on_trial: int | None = None) -> tuple[JobOver, PeerId | None]:
        async with self.round(on_trial) as round_:
            over = await round_.run(self.hear)
            return over, round_.winner

    async def hear(self, update: JobUpdate) -> None:
        self.heard.append(update)

    def named(self, number: int) -> PeerId:
        return self.identities[number].peer_id


async def test_the_soonest_of_three_quotes_is_taken_and_only_that_peer_is_paid(autojump_clock: MockClock) -> None:
    sellers = [Seller(3.0), Seller(1.0), Seller(2.0)]
    shop = Shop(*sellers)
    over, winner = await shop.run()
    assert winner == shop.named(1)
    cost = charge(PRICE, Usage(PROMPT_TOKENS, 10))
    assert over == JobOver(JobState.FINISHED, "stop", Usage(PROMPT_TOKENS, 10), cost, cost)
    assert [seller.paid for seller in sellers] == [0, cost, 0]
    assert sellers[0].cancelled
    assert sellers[2].cancelled
    assert "".join(update.text for update in shop.heard if isinstance(update, JobText)) == "1.0 " * 10
    assert shop.trust.of(shop.named(1)).finished == 1
    assert shop.trust.of(shop.named(0)).finished == 0
    assert shop.faults == []


async def test_one_slow_or_dead_peer_holds_nobody_up(autojump_clock: MockClock) -> None:
    shop = Shop(Seller(0.1, thinks_s=8.0), Seller(1.0), None)
    began = trio.current_time()
    async with shop.round() as round_, trio.open_nursery() as nursery:
        nursery.start_soon(round_.run, shop.hear)
        while not any(isinstance(update, JobText) for update in shop.heard):
            await trio.sleep(0.05)
        assert trio.current_time() - began < 1
        assert round_.winner == shop.named(1)


async def test_a_newcomer_on_trial_gets_the_job_though_others_are_sooner(autojump_clock: MockClock) -> None:
    shop = Shop(Seller(0.1), Seller(2.0))
    over, winner = await shop.run(on_trial=1)
    assert (over.state, winner) == (JobState.FINISHED, shop.named(1))


async def test_when_all_refuse_the_one_that_leaves_hope_is_told(autojump_clock: MockClock) -> None:
    shop = Shop(Seller(1.0, refusal="The queue is full."), None)
    async with shop.round() as round_:
        over = await round_.run(shop.hear)
        assert (over.state, over.reason, over.retry_after_s) == (JobState.DECLINED, "The queue is full.", 1.0)
        assert round_.winner is None
        assert round_.refused == {shop.named(0), shop.named(1)}
    assert shop.payer.signed == []


async def test_a_quote_that_comes_late_or_after_the_end_loses(autojump_clock: MockClock) -> None:
    auction = Auction(3, lambda quotes: min(quotes))
    quote = a_quote(a_request())
    assert await auction.bid(PeerId("b"), quote) is None
    assert await auction.bid(PeerId("a"), quote) == LOST
    assert await auction.bid(PeerId("b"), quote) is None


async def test_an_auction_without_a_good_quote_has_no_winner(autojump_clock: MockClock) -> None:
    auction = Auction(1, lambda quotes: None)
    assert await auction.bid(PeerId("a"), a_quote(a_request())) == LOST
    assert auction.winner is None
