"""Whom a requester asks: apart from each other, strangers for small jobs, and newcomers now and then."""

from __future__ import annotations

from collections import Counter
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from core.job import JobRequest, PeerId
from p2p.candidates import CANARY_TOKENS, GROWN_JOBS, NEWCOMERS_SHARE, most_at_stake, pick, tokens_at_stake
from p2p.messages import SignedOffer
from p2p.peer_address import groups_of
from p2p.trust import Standing
from tests.p2p.fakes import a_request, an_offer

GROWN = Standing(finished=100)
SMALL = a_request(max_tokens=32)
BIG = a_request(max_tokens=4_096)


def an_offer_at(name: str, ip: str = "192.0.2.1", *, speed: float = 20.0) -> SignedOffer:
    offer = msgspec.structs.replace(an_offer(name), decode_tokens_per_s=speed)
    return SignedOffer(offer, "", (f"/ip4/{ip}/tcp/4001",))


def picked(
    offers: list[SignedOffer], standings: dict[str, Standing], *, request: JobRequest, seed: int = 0, k: int = 3
) -> list[str]:
    found = pick(offers, request, known=lambda peer: standings.get(peer, Standing()), draw=Random(seed).random, k=k)
    return [signed.offer.peer_id for signed in found.offers]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 250)), max_size=30), st.integers(1, 6), st.integers(0, 1_000)
)
@settings(max_examples=80, deadline=None)
def test_nobody_is_asked_twice_and_neighbours_only_when_there_is_nobody_else(
    places: list[tuple[int, int]], k: int, seed: int
) -> None:
    offers = [an_offer_at(f"p{n}", f"198.51.{net}.{host}") for n, (net, host) in enumerate(places)]
    names = picked(offers, {}, request=SMALL, seed=seed, k=k)
    by_name = {signed.offer.peer_id: groups_of(signed.addresses) for signed in offers}
    neighbourhoods = {net for net, _ in places}
    assert len(names) == len(set(names)) == min(k, len(offers))
    assert len(set().union(*(by_name[name] for name in names))) == min(k, len(neighbourhoods))


def test_a_crowd_in_one_neighbourhood_gets_one_of_three_places() -> None:
    crowd = [an_offer_at(f"sybil{n}", f"203.0.113.{n + 1}", speed=1_000.0) for n in range(200)]
    honest = [an_offer_at("a", "192.0.2.1"), an_offer_at("b", "198.51.100.1")]
    for seed in range(20):
        assert {"a", "b"} < set(picked([*crowd, *honest], {}, request=SMALL, seed=seed))


def test_a_stranger_gets_no_big_job_while_others_can_take_it() -> None:
    others = [an_offer_at(f"k{n}", f"198.51.{n}.1") for n in range(3)]
    offers = [an_offer_at("stranger", "192.0.2.1", speed=1e6), *others]
    known = {f"k{n}": GROWN for n in range(3)}
    assert all("stranger" not in picked(offers, known, request=BIG, seed=seed) for seed in range(50))
    assert "stranger" in picked(offers, known, request=SMALL)


def test_where_all_are_strangers_they_are_asked_all_the_same() -> None:
    assert picked([an_offer_at("stranger")], {}, request=BIG) == ["stranger"]


def test_newcomers_get_their_share_of_small_jobs_even_beside_giants() -> None:
    offers = [an_offer_at("giant", "192.0.2.1", speed=1e9), an_offer_at("newcomer", "198.51.100.1", speed=0.1)]
    draw, trials = Random(7).random, Counter[PeerId | None]()
    for _ in range(3_000):
        trials[pick(offers, SMALL, known=lambda p: GROWN if p == "giant" else Standing(), draw=draw, k=1).on_trial] += 1
    assert abs(trials[PeerId("newcomer")] / 3_000 - NEWCOMERS_SHARE) < 0.02
    assert set(trials) == {None, PeerId("newcomer")}


def test_what_may_be_at_stake_doubles_with_each_finished_job() -> None:
    assert most_at_stake(0) == CANARY_TOKENS
    assert all(most_at_stake(n + 1) == 2 * most_at_stake(n) for n in range(20))
    assert most_at_stake(GROWN_JOBS) >= 16 * CANARY_TOKENS
    assert tokens_at_stake(BIG) > most_at_stake(3)
