"""Who is asked, whose quote is taken, and how a reputation moves."""

from __future__ import annotations

from collections import Counter
from random import Random

import msgspec
import pytest

from core.job import PeerId, Price
from core.offer import Offer, Quote
from p2p.peer_score import START, WORST, failed, moved
from p2p.placement import choose, sample
from tests.p2p.fakes import a_quote, a_request, an_offer


def even(_: PeerId) -> float:
    return 1.0


def offer(name: str, *, speed: float = 20.0, price: int = 100) -> Offer:
    return msgspec.structs.replace(an_offer(name), decode_tokens_per_s=speed, slots=1, price=Price(1, price))


def quote(ttft_s: float, *, price: int = 100) -> Quote:
    return msgspec.structs.replace(a_quote(a_request()), ttft_p90_s=ttft_s, price=Price(1, price))


def test_peers_are_drawn_in_proportion_to_capacity() -> None:
    offers, draw = [offer("slow", speed=10), offer("fast", speed=30)], Random(1).random
    drawn = Counter(sample(offers, reputation=even, draw=draw, k=1)[0].peer_id for _ in range(4_000))
    assert drawn["fast"] / 4_000 == pytest.approx(0.75, abs=0.03)


def test_a_peer_twice_as_late_is_drawn_a_quarter_as_often() -> None:
    offers, draw = [offer("late"), offer("good")], Random(2).random
    late = {"late": 2.0}
    drawn = Counter(
        sample(offers, reputation=lambda p: late.get(p, 1.0), draw=draw, k=1)[0].peer_id for _ in range(4_000)
    )
    assert drawn["late"] / 4_000 == pytest.approx(0.2, abs=0.03)


def test_nobody_is_drawn_twice_nor_above_the_bid() -> None:
    offers = [offer("a"), offer("b"), offer("dear", price=500)]
    drawn = sample(offers, reputation=even, draw=Random(3).random, bid_per_mtok=100, k=5)
    assert {o.peer_id for o in drawn} == {"a", "b"}
    assert len(drawn) == 2
    assert len(sample(offers, reputation=even, draw=Random(3).random, k=2)) == 2


def test_the_soonest_believed_quote_within_the_bid_wins() -> None:
    quotes = {PeerId("a"): quote(1.0), PeerId("b"): quote(0.6), PeerId("dear"): quote(0.1, price=500)}
    assert choose(quotes, reputation=even, bid_per_mtok=100) == "b"
    assert choose(quotes, reputation=even) == "dear"
    assert choose(quotes, reputation=lambda p: 2.0 if p == "b" else 1.0, bid_per_mtok=100) == "a"
    assert choose(quotes, reputation=even, bid_per_mtok=10) is None
    assert choose({}, reputation=even) is None


def test_a_reputation_moves_a_fifth_of_the_way_within_bounds() -> None:
    assert moved(1.0, measured_s=2.0, quoted_s=1.0) == pytest.approx(1.2)
    assert moved(1.0, measured_s=1e9, quoted_s=1.0) == moved(1.0, measured_s=4.0, quoted_s=1.0) == failed(1.0)
    assert moved(1.0, measured_s=0.0, quoted_s=1.0) == pytest.approx(0.85)
    assert moved(1.0, measured_s=1.0, quoted_s=0.0) == failed(1.0)
    reputation = START
    for _ in range(100):
        reputation = failed(reputation)
    assert reputation == pytest.approx(WORST)
