"""Several peers are asked at once: one is paid, the others are let go, and the user hears the winner alone."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from app.auction import LOST, Auction
from core.job import JobState, PeerId, Usage, charge
from p2p.job_request import JobOver, JobText
from tests.app.shop import Seller, Shop
from tests.p2p.fakes import PRICE, PROMPT_TOKENS, a_quote, a_request


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
    assert {seller.fan_out for seller in sellers} == {3}


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
