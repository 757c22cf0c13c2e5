"""Who is banned, for how long, and who never is; and how often peers may ask."""

from __future__ import annotations

import time

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from core.job import PeerId
from p2p.messages import JOB_PROTOCOL
from p2p.swarm_errors import PeerUnreachable
from p2p.token_bucket import Rate, TokenBuckets
from p2p.trust import (
    BAN_AT,
    FIRST_BAN_S,
    FORGIVEN_AFTER_S,
    MAX_BAN_S,
    MAX_PEERS,
    POINTS,
    Fault,
    Standing,
    Trust,
    after_fault,
)
from tests.p2p.fakes import FakeHost
from tests.p2p.swarms import Member, market, offers_found, until

NOW = 1e9
PEER = PeerId("peer")
LUCK = [fault for fault in Fault if POINTS[fault] == 0]
GUILT = [fault for fault in Fault if POINTS[fault] > 0]


def banned(trust: Trust, fault: Fault, *, now: float, peer: PeerId = PEER) -> float:
    """Do this until a ban begins; how long it lasts."""
    for _ in range(200):
        if trust.note(peer, fault, now=now):
            return trust.of(peer).banned_until - now
    raise AssertionError("no ban")


@given(st.lists(st.tuples(st.sampled_from(LUCK), st.floats(0, 100)), max_size=200))
@settings(max_examples=40, deadline=None)
def test_bad_luck_alone_never_bans(events: list[tuple[Fault, float]]) -> None:
    trust, now = Trust(), NOW
    for fault, later_s in events:
        now += later_s
        assert not trust.note(PEER, fault, now=now)
    assert trust.of(PEER).reputation >= 1.0


@pytest.mark.parametrize("fault", GUILT)
def test_what_no_honest_peer_does_bans_when_it_is_done_again_and_again(fault: Fault) -> None:
    assert banned(Trust(), fault, now=NOW) == FIRST_BAN_S
    assert not Trust().note(PEER, fault, now=NOW)


@pytest.mark.parametrize("fault", GUILT)
def test_a_fault_now_and_then_is_forgotten(fault: Fault) -> None:
    trust = Trust()
    assert not any(trust.note(PEER, fault, now=NOW + 3_600 * hour) for hour in range(200))


def test_each_ban_is_longer_than_the_one_before_up_to_a_day() -> None:
    trust, now, lasted = Trust(), NOW, []
    for _ in range(12):
        lasted.append(banned(trust, Fault.BAD_FRAME, now=now))
        now = trust.of(PEER).banned_until + 1
    assert lasted[0] == FIRST_BAN_S
    assert lasted == sorted(lasted)
    assert lasted[-1] == MAX_BAN_S
    assert all(later == min(MAX_BAN_S, 3 * earlier) for earlier, later in zip(lasted, lasted[1:], strict=False))


def test_bans_are_forgiven_a_day_at_a_time() -> None:
    trust, now = Trust(), NOW
    for _ in range(3):
        banned(trust, Fault.BAD_FRAME, now=now)
        now = trust.of(PEER).banned_until + 1
    assert banned(trust, Fault.BAD_FRAME, now=now + 10 * FORGIVEN_AFTER_S) == FIRST_BAN_S


@given(
    st.lists(st.tuples(st.sampled_from(list(Fault)), st.floats(-100, 100_000)), max_size=60),
    st.builds(
        Standing, at=st.floats(0, 2e9), points=st.floats(0, BAN_AT), bans=st.integers(0, 1_000),
        banned_until=st.floats(0, 2e9),
    ),
)
@settings(max_examples=60, deadline=None)
def test_a_standing_stays_within_its_bounds_even_when_the_clock_is_set_back(
    events: list[tuple[Fault, float]], standing: Standing
) -> None:
    now = NOW
    for fault, later_s in events:
        now += later_s
        before, standing = standing, after_fault(standing, fault, now=now)
        assert 0 <= standing.points <= BAN_AT
        assert 0.25 <= standing.reputation <= 4.0
        assert standing.banned_until <= max(before.banned_until, now + MAX_BAN_S)
        assert standing.banned_until >= before.banned_until or not before.is_banned(now)


def test_strangers_cannot_push_a_ban_out() -> None:
    trust = Trust()
    banned(trust, Fault.BAD_FRAME, now=NOW)
    for number in range(MAX_PEERS + 50):
        trust.note(PeerId(f"stranger-{number}"), Fault.REFUSED_DIAL, now=NOW + 1)
    assert len(trust) == MAX_PEERS
    assert trust.is_banned(PEER, now=NOW + 2)


def test_what_is_kept_is_known_again() -> None:
    kept: dict[PeerId, Standing] = {}
    trust = Trust(kept=kept.__setitem__)
    banned(trust, Fault.FAILED_AUDIT, now=NOW)
    written = {peer: msgspec.json.encode(standing) for peer, standing in kept.items()}
    again = Trust((peer, msgspec.json.decode(body, type=Standing)) for peer, body in written.items())
    assert again.is_banned(PEER, now=NOW + 1)
    assert trust.counts(now=NOW + 1).banned == trust.counts(now=NOW + 1).bans == 1


def test_finished_jobs_are_counted_and_kept() -> None:
    kept: dict[PeerId, Standing] = {}
    trust = Trust(kept=kept.__setitem__)
    for _ in range(3):
        trust.note_finished(PEER, now=NOW)
    assert kept[PEER].finished == 3
    trust.note_first_token(PEER, measured_s=4.0, quoted_s=1.0, now=NOW)
    assert trust.of(PEER).reputation > 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2)), max_size=300))
@settings(max_examples=40, deadline=None)
def test_no_peer_and_not_all_of_them_get_more_turns_than_their_rate(asks: list[tuple[str, float]]) -> None:
    each, total = Rate(2.0, 5.0), Rate(4.0, 8.0)
    buckets, now, turns = TokenBuckets(each, total), 0.0, dict.fromkeys("abc", 0)
    for peer, later_s in asks:
        now += later_s
        turns[peer] += buckets.take(PeerId(peer), now=now).wait_s == 0.0
        assert max(turns.values()) <= each.burst + each.per_s * now + 1e-6
        assert sum(turns.values()) <= total.burst + total.per_s * now + 1e-6


def test_who_waits_as_long_as_he_is_told_gets_his_turn() -> None:
    buckets, now = TokenBuckets(Rate(2.0, 2.0), Rate(100.0, 100.0)), 0.0
    waits = [buckets.take(PEER, now=now) for _ in range(3)]
    assert [turn.wait_s for turn in waits[:2]] == [0.0, 0.0]
    assert waits[2].is_own
    assert buckets.take(PEER, now=now + waits[2].wait_s + 1e-9).wait_s == 0.0


def test_buckets_of_strangers_are_forgotten() -> None:
    buckets = TokenBuckets(Rate(1.0, 2.0), Rate(1e9, 1e9))
    for number in range(5_000):
        buckets.take(PeerId(str(number)), now=number * 10.0)
    assert len(buckets) < 10


async def test_a_peer_that_sends_garbage_again_and_again_is_banned_until_its_time_is_over() -> None:
    async with market(FakeHost(["fine"])) as (_, provider, stranger):
        (offer, *_) = await offers_found(stranger)
        with pytest.raises(PeerUnreachable):
            for _ in range(20):
                bad = await stranger.swarm.open(provider.peer_id, JOB_PROTOCOL, addresses=offer.addresses)
                await bad.write(b"\xff" * 100)
                await until(lambda stream=bad: _is_over(stream))
        assert provider.swarm.trust.counts(now=time.time()).bans == 1
        await until(lambda: stranger.peer_id not in provider.swarm.peers())
        with pytest.raises(PeerUnreachable, match="banned for a while"):
            await provider.swarm.open(stranger.peer_id, JOB_PROTOCOL, addresses=stranger.swarm.addresses())
        provider.swarm.clock = lambda: time.time() + FIRST_BAN_S + 1
        await until(lambda: not provider.swarm.trust.banned(now=provider.swarm.clock()))
        assert await _sees(stranger, provider)


async def test_a_neighbour_that_hands_on_a_forged_offer_is_blamed() -> None:
    async with market(FakeHost([])) as (meeting, provider, stranger):
        (offer, *_) = await offers_found(stranger)
        forged = msgspec.structs.replace(offer, offer=msgspec.structs.replace(offer.offer, slots=99, sequence=99))
        meeting.offers._known._offers = {(provider.peer_id, "tiny"): forged}
        await stranger.offers.find("tiny", deadline_s=2)
        await until(lambda: stranger.swarm.trust.of(meeting.peer_id).points > 0)
        assert stranger.swarm.trust.of(provider.peer_id).points == 0


async def _sees(one: Member, other: Member) -> bool:
    """Whether a stream can be opened now; a connection may just be coming or going."""
    with trio.move_on_after(5):
        while True:
            try:
                stream = await one.swarm.open(other.peer_id, JOB_PROTOCOL, addresses=other.swarm.addresses())
            except PeerUnreachable:
                await trio.sleep(0.02)
                continue
            await stream.reset()
            return True
    return False


def _is_over(stream: object) -> bool:
    return bool(stream._stream._fault or stream._stream._is_at_end)  # type: ignore[attr-defined]
