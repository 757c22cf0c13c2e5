"""Laws of the state: the fold of events."""

from __future__ import annotations

from typing import get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from core import events as e
from core.job import JobId, JobState, JobTerms, Price, PriorityClass, Timing, Usage
from core.node_state import NodeState, Presence
from core.recovery import abandoned
from core.state import apply, earnings

TERMS = JobTerms(JobId("j1"), "demo", PriorityClass.INTERACTIVE)
PRICE = Price(1_000_000, 2_000_000)
QUEUED = e.JobQueued(1.0, TERMS, PRICE, "0xpayer", "peer")


def voucher(cumulative: int, *, added: int = 0) -> e.VoucherAccepted:
    return e.VoucherAccepted(2.0, JobId("j1"), "0xpayer", "0xo", "0xh", cumulative, "0xs", added)


def ended(state: JobState = JobState.FINISHED, amount: int = 50) -> e.JobEnded:
    return e.JobEnded(5.0, JobId("j1"), state, "stop", Usage(10, 20), amount, Timing(0.1, 2.0, 0.1))


def fold(*happened: e.Event) -> NodeState:
    state = NodeState()
    for event in happened:
        state = apply(state, event)
    return state


def test_a_job_leaves_the_live_jobs_when_it_ends_and_counts_once() -> None:
    state = fold(QUEUED, voucher(50, added=50), ended(), ended())
    assert not state.jobs
    assert state.total.finished == 1
    assert state.ended[0].amount == state.ended[0].vouchered == 50
    assert state.ended[0].tokens_per_s == 10.0


def test_an_event_about_an_unknown_job_changes_nothing_but_money() -> None:
    assert fold(ended()) == NodeState()


def test_the_prompt_is_read_when_the_first_progress_comes_and_never_later() -> None:
    first = e.JobProgressed(3.0, JobId("j1"), Usage(10, 1), 20, 0.0)
    later = e.JobProgressed(4.0, JobId("j1"), Usage(10, 9), 30, 9.0)
    assert fold(QUEUED).jobs[JobId("j1")].prompt_read_at is None
    assert fold(QUEUED, first, later).jobs[JobId("j1")].prompt_read_at == 3.0
    assert fold(QUEUED, first, ended()).ended[0].prompt_read_at == 3.0


def test_accruing_is_what_is_served_beyond_vouchers() -> None:
    progressed = e.JobProgressed(3.0, JobId("j1"), Usage(10, 5), 30, 9.0)
    assert earnings(fold(QUEUED, voucher(20, added=20), progressed)).accruing == 10


def test_money_moves_from_earned_to_paid_and_its_sum_stays() -> None:
    steps: list[e.Event] = [
        QUEUED,
        voucher(50, added=50),
        ended(),
        e.RedemptionSubmitted(6.0, "0xt", 50, {"0xpayer": 50}),
        e.RedemptionConfirmed(7.0, "0xt", 50, 9, {"0xpayer": 50}),
        e.PayoutSubmitted(8.0, "0xp", 50),
        e.PayoutConfirmed(9.0, "0xp", 50, 10),
    ]
    seen = []
    state = NodeState()
    for event in steps:
        state = apply(state, event)
        money = earnings(state)
        seen.append((money.earned, money.settling, money.withdrawable, money.paid))
    assert seen[1:] == [(50, 0, 0, 0), (50, 0, 0, 0), (0, 50, 0, 0), (0, 0, 50, 0), (0, 0, 50, 0), (0, 0, 0, 50)]


def test_confirming_a_redemption_twice_pays_once() -> None:
    confirmed = e.RedemptionConfirmed(7.0, "0xt", 50, 9, {"0xpayer": 50})
    state = fold(QUEUED, voucher(50), e.RedemptionSubmitted(6.0, "0xt", 50, {"0xpayer": 50}), confirmed, confirmed)
    assert earnings(state).withdrawable == 50


def test_a_failed_redemption_gives_the_money_back_to_earned() -> None:
    submitted = e.RedemptionSubmitted(6.0, "0xt", 50, {"0xpayer": 50})
    state = fold(QUEUED, voucher(50), submitted, e.TransactionFailed(7.0, "0xt", "reverted"))
    assert earnings(state).earned == 50
    assert earnings(state).settling == 0


@given(st.lists(st.integers(0, 1000), max_size=12))
def test_earned_is_the_highest_voucher_in_any_order(amounts: list[int]) -> None:
    state = fold(QUEUED, *(voucher(amount) for amount in amounts))
    assert earnings(state).earned == max(amounts, default=0)


def test_jobs_of_a_dead_engine_are_failed_for_what_was_paid() -> None:
    state = fold(QUEUED, voucher(40, added=40))
    after = fold(QUEUED, voucher(40, added=40), *abandoned(state, 9.0))
    assert after.ended[0].state is JobState.FAILED
    assert after.ended[0].amount == 40
    assert earnings(after).earned == 40


def test_joining_again_is_remembered_over_a_restart() -> None:
    state = fold(e.JoinRequested(1.0), e.NetworkJoined(2.0, "p", ()), e.EngineStarted(3.0))
    assert state.presence is Presence.JOINING
    assert state.is_join_wanted


def test_every_event_survives_json() -> None:
    decode = msgspec.json.Decoder(e.Event).decode
    for event in (QUEUED, voucher(1), ended(), e.EngineStarted(1.0), e.AccountRead(1.0, 2, 3, 4)):
        assert decode(msgspec.json.encode(event)) == event
    assert len({kind.__struct_config__.tag for kind in get_args(e.Event)}) == len(get_args(e.Event))
