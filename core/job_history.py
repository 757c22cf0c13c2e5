"""How events move jobs: from queued to their one last state, into the day's sums and the history.

Pure. Never raises: an event about an unknown job changes nothing.
"""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from core import events as e
from core.demand import Asked, Demand
from core.job import Job, JobId, JobState, Price
from core.node_state import NodeState, Served
from core.payments.ledger import bill

MAX_ENDED_JOBS = 500
MAX_DECLINED_JOBS = 100
MAX_DAYS = 400
DAY_S = 86_400

JobEvent = (
    e.JobQueued | e.JobStarted | e.JobProgressed | e.JobEnded | e.JobAsked | e.JobDeclined | e.QueueOrdered
)


def apply_job(state: NodeState, event: JobEvent) -> NodeState:
    """The state after an event about jobs."""
    match event:
        case e.JobQueued():
            job = Job(event.terms, event.price, JobState.QUEUED, event.at, payer=event.payer, peer=event.peer)
            return _with_job(state, job)
        case e.JobStarted():
            return _changed(state, event.job_id, state_=JobState.PREFILL)
        case e.JobProgressed():
            return _progressed(state, event)
        case e.JobEnded():
            return _ended(state, event)
        case e.JobAsked():
            asked = Asked(event.job_id, event.at, event.prompt_tokens, event.output_tokens)
            return replace(state, demand=state.demand.with_quote(asked))
        case e.JobDeclined():
            job = Job(event.terms, Price(0, 0), JobState.DECLINED, event.at, ended_at=event.at, reason=event.reason)
            return replace(state, declined=state.declined + 1, ended=_keep(job, state.ended))
        case e.QueueOrdered():
            return _ordered(state, event)
        case _:
            assert_never(event)


def credit_job(state: NodeState, event: e.VoucherAccepted) -> NodeState:
    """Write what a voucher added to the job that it came with."""
    if event.job_id in state.jobs:
        job = state.jobs[event.job_id]
        return _with_job(state, replace(job, vouchered=job.vouchered + event.added))
    ended = tuple(
        replace(job, vouchered=job.vouchered + event.added) if job.terms.job_id == event.job_id else job
        for job in state.ended
    )
    return replace(state, ended=ended)


def day_of(at: float) -> int:
    """Days since the epoch, UTC."""
    return int(at // DAY_S)


def _with_job(state: NodeState, job: Job) -> NodeState:
    return replace(state, jobs={**state.jobs, job.terms.job_id: job})


def _changed(state: NodeState, job_id: JobId, *, state_: JobState) -> NodeState:
    job = state.jobs.get(job_id)
    return state if job is None else _with_job(state, replace(job, state=state_, place=0, why_here=""))


def _progressed(state: NodeState, event: e.JobProgressed) -> NodeState:
    job = state.jobs.get(event.job_id)
    if job is None:
        return state
    is_decoding = event.usage.completion_tokens > 0
    moved = replace(
        job,
        state=JobState.DECODING if is_decoding else JobState.PREFILL,
        usage=event.usage,
        amount=event.amount,
        tokens_per_s=event.tokens_per_s,
        prompt_read_at=job.prompt_read_at or event.at,
        first_token_at=job.first_token_at or (event.at if is_decoding else None),
        place=0,
        why_here="",
    )
    return _with_job(state, moved)


def _ended(state: NodeState, event: e.JobEnded) -> NodeState:
    job = state.jobs.get(event.job_id)
    if job is None:
        return state
    speed = event.usage.completion_tokens / event.timing.decode_s if event.timing.decode_s > 0 else job.tokens_per_s
    over = replace(
        job,
        state=event.state,
        reason=event.reason,
        usage=event.usage,
        amount=event.amount,
        ended_at=event.at,
        tokens_per_s=speed,
        batch=event.timing.batch,
        place=0,
        why_here="",
    )
    live = {job_id: other for job_id, other in state.jobs.items() if job_id != event.job_id}
    day = day_of(event.at)
    days = {**state.days, day: _counted(state.days.get(day, Served()), over, event=event)}
    kept = dict(sorted(days.items())[-MAX_DAYS:])
    idle_since = event.at if not live else state.idle_since
    return replace(
        state,
        jobs=live,
        ended=_keep(over, state.ended),
        total=_counted(state.total, over, event=event),
        days=kept,
        ledger=bill(state.ledger, job.payer, amount=event.amount),
        idle_since=idle_since,
        demand=_demand(state, event),
    )


def _demand(state: NodeState, event: e.JobEnded) -> Demand:
    """What was asked for, now that a job shows what it took; one that did not end by itself shows nothing."""
    if event.state is not JobState.FINISHED:
        return state.demand
    caches = state.choice is not None and state.choice.plan.prefix_cache
    return state.demand.with_end(event.job_id, event.at, usage=event.usage, timing=event.timing, caches=caches)


def _counted(served: Served, job: Job, *, event: e.JobEnded) -> Served:
    is_on_time = event.state is JobState.FINISHED and event.at - job.received_at <= job.terms.deadline_s
    by_model = dict(served.by_model)
    by_model[job.terms.model] = by_model.get(job.terms.model, 0) + event.amount
    return Served(
        finished=served.finished + (event.state is JobState.FINISHED),
        failed=served.failed + (event.state is JobState.FAILED),
        cancelled=served.cancelled + (event.state is JobState.CANCELLED),
        on_time=served.on_time + is_on_time,
        prompt_tokens=served.prompt_tokens + event.usage.prompt_tokens,
        completion_tokens=served.completion_tokens + event.usage.completion_tokens,
        amount=served.amount + event.amount,
        busy_s=served.busy_s + event.timing.prefill_s + event.timing.decode_s / max(1.0, event.timing.batch),
        by_model=by_model,
    )


def _ordered(state: NodeState, event: e.QueueOrdered) -> NodeState:
    jobs = dict(state.jobs)
    for place, (job_id, why) in enumerate(event.places, start=1):
        if job_id in jobs and jobs[job_id].state is JobState.QUEUED:
            jobs[job_id] = replace(jobs[job_id], place=place, why_here=why)
    return replace(state, jobs=jobs)


def _keep(job: Job, ended: tuple[Job, ...]) -> tuple[Job, ...]:
    """The newest first. What was declined costs its asker nothing, so it never pushes out what was served."""
    if job.state is JobState.DECLINED:
        known = [other for other in ended if other.state is JobState.DECLINED]
        oldest = known[MAX_DECLINED_JOBS - 1 :]
        ended = tuple(other for other in ended if not any(other is old for old in oldest)) if oldest else ended
    return (job, *ended[: MAX_ENDED_JOBS - 1])
