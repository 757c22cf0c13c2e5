"""Two peers that sell the same file are asked the same; who answers alone is found out, within a budget."""

from __future__ import annotations

from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from app.auditor import Audited, Auditor
from core.job import JobId, PeerId
from p2p.audit import most_cost, question, twins, wrong
from p2p.messages import SignedOffer
from p2p.trust import Fault
from tests.app.shop import Seller, Shop
from tests.p2p.fakes import an_offer


async def audited(shop: Shop, *, budget: int = 10_000, seed: int = 5) -> tuple[Audited | None, int]:
    async def settle(job_id: JobId, amount: int) -> None:
        shop.settled += amount

    async with shop.open() as ports:
        auditor = Auditor(budget, ports, settle=settle, draw=Random(seed).random)
        return await auditor.audit(shop.offers()), auditor.left


async def test_honest_twins_agree_and_a_third_is_not_asked(autojump_clock: MockClock) -> None:
    sellers = [Seller(1.0, word="7 ") for _ in range(3)]
    shop = Shop(*sellers)
    found, left = await audited(shop)
    assert found is not None
    assert (len(found.asked), found.wrong) == (2, ())
    assert found.cost == 10_000 - left == shop.settled == sum(seller.paid for seller in sellers) > 0
    assert shop.faults == []


async def test_a_liar_among_three_is_found_by_the_third(autojump_clock: MockClock) -> None:
    shop = Shop(Seller(1.0, word="7 "), Seller(1.0, word="7 "), Seller(1.0, word="lie "))
    caught = 0
    for seed in range(6):
        shop.renew()
        found, _ = await audited(shop, seed=seed)
        assert found is not None
        caught += found.wrong == (shop.named(2),)
        assert set(found.wrong) <= {shop.named(2)}
    assert caught > 0
    assert shop.faults == [(shop.named(2), Fault.FAILED_AUDIT)] * caught


async def test_of_two_that_differ_neither_is_believed(autojump_clock: MockClock) -> None:
    shop = Shop(Seller(1.0, word="7 "), Seller(1.0, word="lie "))
    found, _ = await audited(shop)
    assert found is not None
    assert set(shop.faults) == {(shop.named(0), Fault.DOUBTED), (shop.named(1), Fault.DOUBTED)}


async def test_a_peer_that_does_not_answer_is_no_liar(autojump_clock: MockClock) -> None:
    shop = Shop(Seller(1.0, word="7 "), Seller(1.0, refusal="The queue is full."), Seller(1.0, word="7 "))
    found, _ = await audited(shop)
    assert found is not None
    assert found.wrong == ()
    assert shop.faults == []


async def test_below_the_budget_nobody_is_asked(autojump_clock: MockClock) -> None:
    shop = Shop(Seller(1.0), Seller(1.0))
    assert await audited(shop, budget=most_cost(shop.offers()[0].offer)) == (None, most_cost(shop.offers()[0].offer))
    assert await audited(shop, budget=0) == (None, 0)
    assert shop.payer.signed == []


def an_offer_of(name: str, quantization: str, ip: str) -> SignedOffer:
    return SignedOffer(msgspec.structs.replace(an_offer(name), quantization=quantization), "", (f"/ip4/{ip}/tcp/1",))


def test_only_those_who_sell_the_same_file_are_compared_and_neighbours_last() -> None:
    q8 = [an_offer_of(f"a{n}", "Q8_0", f"192.0.2.{n}") for n in range(5)] + [an_offer_of("b", "Q8_0", "198.51.100.1")]
    for seed in range(20):
        chosen = twins([*q8, an_offer_of("c", "Q4_0", "203.0.113.1")], Random(seed).random)
        assert len(chosen) == 3
        assert {signed.offer.quantization for signed in chosen} == {"Q8_0"}
        assert "b" in {signed.offer.peer_id for signed in chosen[:2]}
    assert twins([q8[0], an_offer_of("c", "Q4_0", "203.0.113.1")], Random(1).random) == ()


@given(st.integers(2, 3), st.integers(0, 2))
@settings(max_examples=20, deadline=None)
def test_the_majority_is_never_wrong(honest: int, liars: int) -> None:
    texts = {PeerId(f"h{n}"): "7" for n in range(honest)} | {PeerId(f"l{n}"): f"lie {n}" for n in range(liars)}
    if len(texts) <= 3:
        assert not any(peer.startswith("h") for peer in wrong(texts))


def test_no_two_questions_are_the_same_and_all_are_greedy() -> None:
    draw = Random(3).random
    asked = [question("tiny", JobId("a"), draw=draw, max_total=9) for _ in range(50)]
    assert len({request.messages for request in asked}) == 50
    assert all(request.sampling.temperature == 0 and request.terms.max_total == 9 for request in asked)
