"""The laws of one peer's queue: order, cap on the wait, kept promises."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from core.admission import Admitted, Policy, Refused, Reserve, Speed, speed_of
from core.job import JobId, JobTerms, PriorityClass
from core.plan import Estimate, Plan
from core.scheduler import Scheduler

SPEED = Speed(prefill_tokens_per_s=4000.0, step_s=0.012, step_slope=0.06, slots=8, chunk=512)
ONE_SLOT = Speed(prefill_tokens_per_s=4000.0, step_s=0.012, step_slope=0.06, slots=1, chunk=512)
PRIORITIES = st.sampled_from(list(PriorityClass))


def terms(name: str, priority: PriorityClass = PriorityClass.STANDARD, *, deadline_s: float = 600.0) -> JobTerms:
    return JobTerms(
        job_id=JobId(name), model="demo", priority=priority, deadline_s=deadline_s, bid_per_mtok=500_000, max_tokens=256
    )


def test_equal_arrival_serves_the_more_urgent_class_first() -> None:
    queue = Scheduler(SPEED)
    for priority in reversed(PriorityClass):
        queue.add(terms(priority.value, priority), 100, now=0.0)
    assert [a.job_id for a in queue.schedule(3, now=0.0)] == [p.value for p in PriorityClass]


def test_no_more_jobs_start_than_slots_are_free() -> None:
    queue = Scheduler(SPEED)
    for i in range(5):
        queue.add(terms(str(i)), 100, now=0.0)
    assert [a.job_id for a in queue.schedule(2, now=0.0)] == ["0", "1"]
    assert [p.job_id for p in queue.waiting(0.0)] == ["2", "3", "4"]


def test_the_earlier_deadline_goes_first_within_a_class() -> None:
    queue = Scheduler(SPEED)
    queue.add(terms("late", deadline_s=60.0), 100, now=0.0)
    queue.add(terms("soon", deadline_s=10.0), 100, now=0.0)
    assert queue.schedule(1, now=0.0)[0].job_id == "soon"


def test_a_job_past_its_latest_start_yields_to_those_that_can_still_be_on_time() -> None:
    queue = Scheduler(ONE_SLOT)
    queue.add(terms("lost", PriorityClass.INTERACTIVE), 100, now=0.0)
    queue.add(terms("fresh", PriorityClass.INTERACTIVE), 100, now=20.0)
    assert queue.schedule(1, now=20.0)[0].job_id == "fresh"


def test_same_job_twice_waits_once() -> None:
    queue = Scheduler(SPEED)
    queue.add(terms("a"), 100, now=0.0)
    queue.add(terms("a"), 100, now=1.0)
    assert len(queue.waiting(1.0)) == 1


def test_a_deadline_that_cannot_be_met_is_refused_for_good() -> None:
    verdict = Scheduler(SPEED).admit(terms("a", deadline_s=0.5), 4000, now=0.0)
    assert isinstance(verdict, Refused)
    assert verdict.retry_after_s == 0
    assert "deadline" in verdict.reason


def test_a_machine_too_slow_for_a_class_refuses_it() -> None:
    slow = Speed(prefill_tokens_per_s=50.0, step_s=0.3, step_slope=0.1, slots=2, chunk=64)
    verdict = Scheduler(slow).admit(terms("a", PriorityClass.INTERACTIVE), 20, now=0.0)
    assert isinstance(verdict, Refused)
    assert "too slow" in verdict.reason


def test_a_full_queue_refuses_and_says_when_to_ask_again() -> None:
    queue = Scheduler(SPEED, Policy(backlog_cap_s=2.0))
    for i in range(8):
        queue.add(terms(str(i), PriorityClass.BATCH), 2000, now=0.0)
    verdict = queue.admit(terms("last", PriorityClass.BATCH), 2000, now=0.0)
    assert isinstance(verdict, Refused)
    assert verdict.retry_after_s > 0


def test_an_idle_machine_admits_and_starts_at_once() -> None:
    verdict = Scheduler(SPEED).admit(terms("a", PriorityClass.INTERACTIVE), 400, now=5.0)
    assert isinstance(verdict, Admitted)
    assert verdict.predicted_start_s == 0
    assert 0.1 < verdict.ttft_s < 0.2


def test_a_quote_keeps_its_place_until_it_expires() -> None:
    queue = Scheduler(ONE_SLOT, Policy(backlog_cap_s=3.0))
    assert isinstance(queue.admit(terms("a", PriorityClass.BATCH), 4000, now=0.0), Admitted)
    assert isinstance(queue.admit(terms("b", PriorityClass.BATCH), 4000, now=1.0), Refused)
    assert isinstance(queue.admit(terms("b", PriorityClass.BATCH), 4000, now=2.5), Admitted)


def test_dear_work_is_taken_and_cheap_work_refused_when_demand_is_high() -> None:
    queue = Scheduler(ONE_SLOT, Policy(reserve=Reserve.ON, swarm_demand=2.0))
    for i in range(20):
        queue.admit(terms(f"d{i}", PriorityClass.BATCH), 1000, now=float(i))
        queue.add(terms(f"d{i}", PriorityClass.BATCH), 1000, now=float(i))
    cheap = JobTerms(job_id=JobId("c"), model="demo", priority=PriorityClass.BATCH, deadline_s=600.0, bid_per_mtok=1000)
    assert isinstance(queue.admit(cheap, 1000, now=20.0), Refused)
    assert isinstance(queue.admit(terms("e", PriorityClass.BATCH), 1000, now=20.0), Admitted)


def test_the_reason_of_a_place_is_a_sentence() -> None:
    queue = Scheduler(SPEED)
    for i in range(4):
        queue.add(terms(str(i), PriorityClass.INTERACTIVE), 400, now=0.0)
    last = queue.waiting(2.0)[-1]
    assert last.place == 4
    assert last.why == "Interactive, 2.9 s of slack; 3 jobs ahead, about 0 s"


def test_lengths_are_learned_and_capped_by_the_request() -> None:
    queue = Scheduler(SPEED)
    for i in range(200):
        queue.add(terms(str(i)), 10, now=float(i))
        queue.schedule(1, now=float(i))
        queue.finish(JobId(str(i)), now=i + 0.5, completion_tokens=20)
    assert 19 < queue.predicted_tokens < 23


@given(st.lists(st.tuples(PRIORITIES, st.floats(0, 300), st.integers(1, 3000)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_no_job_is_served_after_one_that_came_later_than_its_cap(
    jobs: list[tuple[PriorityClass, float, int]],
) -> None:
    caps = {PriorityClass.INTERACTIVE: 30.0, PriorityClass.STANDARD: 60.0, PriorityClass.BATCH: 600.0}
    arrivals = sorted(jobs, key=lambda j: j[1])
    queue = Scheduler(ONE_SLOT)
    for i, (priority, at, tokens) in enumerate(arrivals):
        queue.add(terms(str(i), priority), tokens, now=at)
    now, served = 300.0, []
    while started := queue.schedule(1, now=now):
        served.append(int(started[0].job_id))
        now += 7.0
    for place, index in enumerate(served):
        priority, at, _ = arrivals[index]
        assert all(arrivals[earlier][1] <= at + caps[priority] for earlier in served[:place])
    assert sorted(served) == list(range(len(arrivals)))


def test_a_plan_that_reads_prompts_whole_admits_like_any_other() -> None:
    plan = Plan("demo", "llama.cpp", "F16", slots=4, slot_context_tokens=2048, prefill_chunk=0)
    queue = Scheduler(speed_of(plan, Estimate(4000.0, 80.0, 60.0, 100.0, 0.06, 1, True)))
    assert isinstance(queue.admit(terms("j"), 1500, now=0.0), Admitted)
