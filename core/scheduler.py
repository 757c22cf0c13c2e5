"""Decide who is admitted and who runs next at one peer, for one loaded model. Decides, never does.

Price decides who gets in, deadlines decide who goes first, a cap prevents starvation: at every free slot the smallest
key K_j is served (core.admission). `now` is an argument: seconds on any steady clock, never going back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

import msgspec

from core.admission import (
    Admitted,
    Entry,
    Offered,
    Policy,
    Queue,
    Refused,
    Running,
    Speed,
    entry,
    in_order,
    judge,
    occupancy_s,
    predicted_starts,
    service_class,
)
from core.job import JobId, JobTerms

FIRST_GUESS_TOKENS = 128.0
LENGTH_MEMORY = 64
MAX_OFFERED = 1024


class Assignment(msgspec.Struct, frozen=True):
    """Start this job in a free slot now; why is a sentence for the owner."""

    job_id: JobId
    why: str


class Place(msgspec.Struct, frozen=True):
    """Where a waiting job stands, 1 being next; why is a sentence for the owner."""

    job_id: JobId
    place: int
    why: str


class Scheduler:
    """Owns the queue of one loaded model: quoted, waiting and running jobs, and how long answers usually are."""

    def __init__(self, speed: Speed, policy: Policy | None = None) -> None:
        self._speed = speed
        self._policy = policy or Policy()
        self._quoted: dict[JobId, Entry] = {}
        self._waiting: dict[JobId, Entry] = {}
        self._running: dict[JobId, Running] = {}
        self._offered: deque[Offered] = deque(maxlen=MAX_OFFERED)  # full: the oldest offer is forgotten
        self._mean_tokens = FIRST_GUESS_TOKENS
        self._finished = 0

    @property
    def speed(self) -> Speed:
        """What promises are made by now."""
        return self._speed

    def calibrate(self, speed: Speed) -> None:
        """Take a newly measured speed; jobs already in the queue keep what was promised to them."""
        self._speed = speed

    def admit(self, terms: JobTerms, prompt_tokens: int, *, now: float) -> Admitted | Refused:
        """Can this job's promise be kept? Yes keeps its place for the policy's hold_s, until add or expiry."""
        job = self._entry(terms, prompt_tokens, now=now)
        self._offered.append(Offered(now, job.work_s / max(1, terms.fan_out), job.density))
        self._quoted.pop(terms.job_id, None)
        verdict = judge(self._queue(now), job, now=now)
        if isinstance(verdict, Admitted):
            self._quoted[terms.job_id] = job
        return verdict

    def add(self, terms: JobTerms, prompt_tokens: int, *, now: float) -> None:
        """The job is ours: it waits from its quote's time if that is still held, else from now. Twice is once."""
        held = self._quoted.pop(terms.job_id, None)
        if terms.job_id not in self._waiting and terms.job_id not in self._running:
            self._waiting[terms.job_id] = held or self._entry(terms, prompt_tokens, now=now)

    def schedule(self, slots_free: int, *, now: float) -> list[Assignment]:
        """Who starts now, at most slots_free jobs; they count as running until finish."""
        chosen = in_order(tuple(self._waiting.values()), now)[: max(0, slots_free)]
        left = len(self._waiting)
        for job in chosen:
            del self._waiting[job.terms.job_id]
            self._running[job.terms.job_id] = Running(job, now, now + occupancy_s(job, self._speed))
        return [Assignment(j.terms.job_id, f"{_situation(j, now)}; first of {left} waiting") for j in chosen]

    def let_go(self, job_id: JobId) -> None:
        """The place of a quote that nobody will take is free."""
        self._quoted.pop(job_id, None)

    def finish(self, job_id: JobId, *, now: float, completion_tokens: int | None = None) -> None:
        """The job has left, however it ended. Give completion_tokens when it ended by itself: lengths are learned."""
        self._quoted.pop(job_id, None)
        self._waiting.pop(job_id, None)
        known = self._running.pop(job_id, None)
        if known is None or completion_tokens is None:
            return
        self._finished += 1
        weight = max(1 / (self._finished + 1), 1 / LENGTH_MEMORY)
        self._mean_tokens += weight * (completion_tokens - self._mean_tokens)

    def share(self, job_ids: Collection[JobId]) -> float:
        """How much of all the work that may wait here is that of these jobs, those that run left out: 0 to 1."""
        waiting = {**self._quoted, **self._waiting}
        work_s = sum(job.work_s for job_id, job in waiting.items() if job_id in job_ids)
        return float(work_s / self._policy.backlog_cap_s)

    def waiting(self, now: float) -> tuple[Place, ...]:
        """The queue in the order in which it will be served, each place with its reason."""
        queue = msgspec.structs.replace(self._queue(now), waiting=tuple(self._waiting.values()))
        starts = predicted_starts(queue, now)
        ordered = in_order(queue.waiting, now)
        return tuple(
            Place(j.terms.job_id, i + 1, f"{_situation(j, now)}; {_ahead(i)}, about {starts[j.terms.job_id]:.0f} s")
            for i, j in enumerate(ordered)
        )

    @property
    def predicted_tokens(self) -> float:
        """How long answers usually are here, in tokens: a running mean, 128 before the first."""
        return self._mean_tokens

    def _entry(self, terms: JobTerms, prompt_tokens: int, *, now: float) -> Entry:
        tokens = min(float(terms.max_tokens), self._mean_tokens)
        return entry(terms, prompt_tokens, output_tokens=tokens, speed=self._speed, now=now)

    def _queue(self, now: float) -> Queue:
        held = {k: j for k, j in self._quoted.items() if now - j.arrived_at <= self._policy.hold_s}
        self._quoted = held
        return Queue(
            speed=self._speed,
            policy=self._policy,
            running=tuple(self._running.values()),
            waiting=(*self._waiting.values(), *held.values()),
            offered=tuple(self._offered),
        )


def _situation(job: Entry, now: float) -> str:
    title = service_class(job.terms.priority).title
    slack_s = job.latest_start_at - now
    return f"{title}, {slack_s:.1f} s of slack" if slack_s >= 0 else f"{title}, late by {-slack_s:.1f} s"


def _ahead(count: int) -> str:
    return {0: "next", 1: "1 job ahead"}.get(count, f"{count} jobs ahead")
