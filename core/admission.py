"""Can this job's promise be kept? The arithmetic of one peer's queue: work, slack, key, predicted start, reserve price.

Pure: a queue and `now` come in, a verdict goes out. Never changes a queue (core.scheduler does). Times are seconds.
The margins were set on a public trace (tests/simulation): a fifth of the TTFT kept in hand, for admission and against
later jobs, brought what was admitted at load 1.5 from 93 to 99 % on time, and refused no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from heapq import heapify, heapreplace
from math import ceil

import msgspec

from core.job import JobId, JobTerms, PriorityClass
from core.plan import Estimate, Plan

PROMPT_PRICE_SHARE = 0.25
TTFT_MARGIN = 0.8
TPOT_MARGIN = 1.25
OVERDUE_SHARE = 0.15


class Reserve(StrEnum):
    """Whether work that pays less than the reserve price may be refused when demand exceeds capacity."""

    ON = "on"
    OFF = "off"


class ServiceClass(msgspec.Struct, frozen=True):
    """What a class is promised. wait_cap_s (W_c) bounds the wait; ttft_s None: judged end to end only."""

    title: str
    wait_cap_s: float
    tpot_s: float
    ttft_s: float | None = None


class Policy(msgspec.Struct, frozen=True):
    """The peer's constants: most queued work Q [machine-s], phi, how long a quote's place is kept, swarm demand."""

    backlog_cap_s: float = 120.0
    phi: float = 0.05
    hold_s: float = 2.0
    reserve: Reserve = Reserve.OFF
    swarm_demand: float = 0.0


class Speed(msgspec.Struct, frozen=True):
    """What the loaded plan does: step(b) = step_s (1 + step_slope b); chunk is the prompt tokens read in one step."""

    prefill_tokens_per_s: float
    step_s: float
    step_slope: float
    slots: int
    chunk: int

    def step(self, batch: float) -> float:
        """Seconds of one decode step with this many sequences."""
        return self.step_s * (1 + self.step_slope * batch)


class Entry(msgspec.Struct, frozen=True):
    """One job in the queue. After latest_start_at its promise cannot be kept; density is money per machine-s."""

    terms: JobTerms
    prompt_tokens: int
    output_tokens: float
    arrived_at: float
    work_s: float
    prefill_s: float
    latest_start_at: float
    density: float


class Running(msgspec.Struct, frozen=True):
    """A job in a slot, and when it is expected to leave it."""

    entry: Entry
    started_at: float
    ends_at: float


class Offered(msgspec.Struct, frozen=True):
    """Work that was asked of us, admitted or not: what demand is measured by."""

    at: float
    work_s: float
    density: float


class Admitted(msgspec.Struct, frozen=True):
    """The promise can be kept: all four are seconds from now (tpot_s: per token once it runs)."""

    predicted_start_s: float
    ttft_s: float
    tpot_s: float
    total_s: float


class Refused(msgspec.Struct, frozen=True):
    """Why not, and when asking again may help; 0 means that asking again is no use."""

    reason: str
    retry_after_s: float = 0.0


class Queue(msgspec.Struct, frozen=True):
    """A picture of one peer's work: who runs, who waits (or holds a quote), and what was offered lately."""

    speed: Speed
    policy: Policy
    running: tuple[Running, ...] = ()
    waiting: tuple[Entry, ...] = ()
    offered: tuple[Offered, ...] = ()


def service_class(priority: PriorityClass) -> ServiceClass:
    """The promise of each class (scheduling.md)."""
    match priority:
        case PriorityClass.INTERACTIVE:
            return ServiceClass("Interactive", 30.0, 0.1, 5.0)
        case PriorityClass.STANDARD:
            return ServiceClass("Standard", 60.0, 0.2, 20.0)
        case PriorityClass.BATCH:
            return ServiceClass("Batch", 600.0, 60.0)


def speed_of(plan: Plan, estimate: Estimate) -> Speed:
    """The scheduler's view of an estimate: t0 such that one sequence alone decodes at the estimate's speed."""
    alone_s = 1 / max(estimate.decode_tokens_per_s, 1e-9)
    return Speed(
        prefill_tokens_per_s=max(estimate.prefill_tokens_per_s, 1e-9),
        step_s=alone_s / (1 + estimate.step_slope),
        step_slope=estimate.step_slope,
        slots=plan.slots,
        chunk=plan.prefill_chunk or plan.slot_context_tokens,
    )


def entry(terms: JobTerms, prompt_tokens: int, *, output_tokens: float, speed: Speed, now: float) -> Entry:
    """The job as the queue sees it, arriving now with this predicted answer length."""
    work_s = prompt_tokens / speed.prefill_tokens_per_s + output_tokens * speed.step(speed.slots) / speed.slots
    paid = terms.bid_per_mtok * (PROMPT_PRICE_SHARE * prompt_tokens + output_tokens) / 1e6
    return Entry(
        terms=terms,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        arrived_at=now,
        work_s=work_s,
        prefill_s=_first_token_s(prompt_tokens, speed),
        latest_start_at=now + _slack_s(terms, prompt_tokens, output_tokens=output_tokens, speed=speed),
        density=paid / max(work_s, 1e-9),
    )


def key(job: Entry, now: float) -> float:
    """K_j: serve the smallest. Static until its latest start has passed, then arrival + W_c."""
    cap_s = service_class(job.terms.priority).wait_cap_s
    slack_s = job.latest_start_at - job.arrived_at
    if slack_s < 0 or now > job.latest_start_at:
        return job.arrived_at + cap_s
    return job.arrived_at + min(cap_s, slack_s)


def in_order(waiting: Sequence[Entry], now: float) -> list[Entry]:
    """Who would start first if slots came free one by one; equal keys by arrival, then by id."""
    return sorted(waiting, key=lambda j: (key(j, now), j.arrived_at, j.terms.job_id))


def predicted_starts(queue: Queue, now: float) -> dict[JobId, float]:
    """Seconds from now until each waiting job starts, if nobody else comes. Full slots: a job holds one for B w_j."""
    free_at = [remaining_s(r, now) for r in queue.running][: queue.speed.slots]
    free_at += [0.0] * (queue.speed.slots - len(free_at))
    heapify(free_at)
    starts = {}
    for job in in_order(queue.waiting, now):
        starts[job.terms.job_id] = free_at[0]
        heapreplace(free_at, free_at[0] + occupancy_s(job, queue.speed))
    return starts


def remaining_s(job: Running, now: float) -> float:
    """Until the slot is free; a job that runs longer than predicted is expected to run on for a part of that time."""
    return max(job.ends_at - now, OVERDUE_SHARE * (job.ends_at - job.started_at))


def occupancy_s(job: Entry, speed: Speed) -> float:
    """How long a job holds its slot when all are busy: its own steps, and its neighbours' prompts between them."""
    return job.work_s * speed.slots


def backlog_s(queue: Queue, now: float) -> float:
    """Machine seconds not done yet: the waiting whole, the running by what is left of their slot."""
    left = sum(remaining_s(r, now) for r in queue.running) / queue.speed.slots
    return left + sum(job.work_s for job in queue.waiting)


def reserve_price(queue: Queue, job: Entry, *, now: float) -> float:
    """rho*: the density below which work does not pay now; 0 when demand is no more than we can do."""
    if queue.policy.reserve is Reserve.OFF:
        return 0.0
    tau_s = min(600.0, max(120.0, job.latest_start_at - now))
    recent = sorted((o for o in queue.offered if o.at > now - tau_s), key=lambda o: o.density)
    offered_s = sum(o.work_s for o in recent)
    demand = max(offered_s / tau_s, queue.policy.swarm_demand)
    if demand <= 1:
        return 0.0
    passed_s = 0.0
    for o in recent:
        passed_s += o.work_s
        if passed_s >= (1 - 1 / demand) * offered_s:
            return o.density
    return 0.0


def judge(queue: Queue, job: Entry, *, now: float) -> Admitted | Refused:
    """Admit if the promise can be kept, nobody else's is broken, and the price is worth the queue's time."""
    after = msgspec.structs.replace(queue, waiting=(*queue.waiting, job))
    starts = predicted_starts(after, now)
    start_s = starts[job.terms.job_id]
    refusal = (
        _too_much(queue, job, now=now)
        or _too_slow(queue, job)
        or _too_late(queue, job, start_s=start_s)
        or _breaks_promise(queue, starts, now=now)
        or _too_cheap(queue, job, now=now)
    )
    return refusal or Admitted(
        predicted_start_s=start_s,
        ttft_s=start_s + job.prefill_s,
        tpot_s=queue.speed.step(queue.speed.slots),
        total_s=start_s + _service_s(job, queue.speed),
    )


def _first_token_s(prompt_tokens: int, speed: Speed) -> float:
    """From the start to the first token: the prompt's chunks, and the neighbours' steps between them."""
    chunks = ceil(prompt_tokens / speed.chunk)
    return prompt_tokens / speed.prefill_tokens_per_s + chunks * speed.step(speed.slots - 1)


def _slack_s(terms: JobTerms, prompt_tokens: int, *, output_tokens: float, speed: Speed) -> float:
    """s_j: how long the job may wait and still keep its class's first token and its own end-to-end deadline."""
    first_s = _first_token_s(prompt_tokens, speed)
    to_the_end = terms.deadline_s - first_s - output_tokens * speed.step(speed.slots)
    ttft_s = service_class(terms.priority).ttft_s
    return to_the_end if ttft_s is None else min(ttft_s - first_s, to_the_end)


def _service_s(job: Entry, speed: Speed) -> float:
    return job.prefill_s + job.output_tokens * speed.step(speed.slots)


def _too_much(queue: Queue, job: Entry, *, now: float) -> Refused | None:
    waiting_s = backlog_s(queue, now)
    over_s = waiting_s + job.work_s - queue.policy.backlog_cap_s
    if over_s <= 0:
        return None
    if job.work_s > queue.policy.backlog_cap_s:
        return Refused(f"This job needs about {job.work_s:.0f} s of this machine, more than it takes on at once.")
    return Refused(f"The queue is full: about {waiting_s:.0f} s of work is waiting.", over_s)


def _too_slow(queue: Queue, job: Entry) -> Refused | None:
    promise = service_class(job.terms.priority)
    step_s = queue.speed.step(queue.speed.slots)
    if TPOT_MARGIN * step_s <= promise.tpot_s:
        return None
    kind = promise.title.lower()
    return Refused(f"This machine needs about {1000 * step_s:.0f} ms a token, too slow for {kind} jobs.")


def _too_late(queue: Queue, job: Entry, *, start_s: float) -> Refused | None:
    promise = service_class(job.terms.priority)
    service_s = _service_s(job, queue.speed)
    if service_s > job.terms.deadline_s:
        return Refused(f"This job takes about {service_s:.0f} s here; its deadline is {job.terms.deadline_s:.0f} s.")
    if promise.ttft_s is not None and job.prefill_s > TTFT_MARGIN * promise.ttft_s:
        kind = promise.title.lower()
        return Refused(f"Reading this prompt takes about {job.prefill_s:.0f} s, too long for {kind} jobs.")
    over_s = start_s + service_s - job.terms.deadline_s
    if promise.ttft_s is not None:
        over_s = max(over_s, start_s + job.prefill_s - TTFT_MARGIN * promise.ttft_s)
    if over_s <= 0:
        return None
    return Refused(f"The deadline cannot be met: the job would start in about {start_s:.0f} s.", over_s)


def _breaks_promise(queue: Queue, starts: dict[JobId, float], *, now: float) -> Refused | None:
    """Refused when someone who waits would newly start too late, or newly within the margin before that."""
    before = predicted_starts(queue, now)
    for job in queue.waiting:
        start_s, pushed_s = before[job.terms.job_id], starts[job.terms.job_id]
        slack_s = job.latest_start_at - now
        margin_s = (1 - TTFT_MARGIN) * (service_class(job.terms.priority).ttft_s or 0.0)
        if start_s <= slack_s < pushed_s or start_s <= slack_s - margin_s < pushed_s:
            return Refused("Taking this job would break the promise to one that is waiting.", start_s)
    return None


def _too_cheap(queue: Queue, job: Entry, *, now: float) -> Refused | None:
    price = reserve_price(queue, job, now=now)
    if job.density >= price or backlog_s(queue, now) <= queue.policy.phi * max(0.0, job.latest_start_at - now):
        return None
    needed = ceil(job.terms.bid_per_mtok * price / job.density) if job.density > 0 else 0
    more = f" A bid of {needed} per million tokens would be taken." if needed else ""
    return Refused(f"Demand is higher than this machine can serve at this bid.{more}", 30.0)
