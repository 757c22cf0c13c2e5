"""One peer on a slice of a public trace: the scheduler against first come, first served.

The peer reads prompts in chunks between decode steps, as core.runtimes does; arrival times are stretched to the load
that is wanted. Classes are drawn by a seeded rule, since no trace carries them.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.admission import Admitted, Policy, Reserve, Speed, service_class
from core.job import JobId, JobTerms, PriorityClass
from core.scheduler import Scheduler

TRACE = Path(__file__).parents[1] / "vectors" / "azure_conversation.csv"
SPEED = Speed(prefill_tokens_per_s=4000.0, step_s=0.012, step_slope=0.06, slots=8, chunk=512)
BACKLOG_CAP_S = 120.0


@dataclass
class Request:
    """One job of the trace and what became of it."""

    terms: JobTerms
    at: float
    prompt_tokens: int
    output_tokens: int
    left_to_read: int = 0
    written: int = 0
    started_at: float | None = None
    first_at: float | None = None
    ended_at: float | None = None

    def is_on_time(self) -> bool:
        promise = service_class(self.terms.priority)
        if self.ended_at is None or self.first_at is None:
            return False
        if promise.ttft_s is None:
            return self.ended_at - self.at <= self.terms.deadline_s
        tpot_s = (self.ended_at - self.first_at) / max(1, self.output_tokens - 1)
        return self.first_at - self.at <= promise.ttft_s and tpot_s <= promise.tpot_s


class FirstCome:
    """The baseline: no admission, no classes."""

    def __init__(self) -> None:
        self.line: list[JobId] = []

    def arrive(self, request: Request, now: float) -> None:
        self.line.append(request.terms.job_id)

    def start(self, free: int, now: float) -> list[JobId]:
        chosen, self.line = self.line[:free], self.line[free:]
        return chosen

    def leave(self, request: Request, now: float) -> None:
        pass


class Scheduled:
    """Our policy."""

    def __init__(self, reserve: Reserve = Reserve.OFF) -> None:
        self.scheduler = Scheduler(SPEED, Policy(backlog_cap_s=BACKLOG_CAP_S, reserve=reserve))
        self.admitted = 0

    def arrive(self, request: Request, now: float) -> None:
        if isinstance(self.scheduler.admit(request.terms, request.prompt_tokens, now=now), Admitted):
            self.scheduler.add(request.terms, request.prompt_tokens, now=now)
            self.admitted += 1

    def start(self, free: int, now: float) -> list[JobId]:
        return [a.job_id for a in self.scheduler.schedule(free, now=now)]

    def leave(self, request: Request, now: float) -> None:
        self.scheduler.finish(request.terms.job_id, now=now, completion_tokens=request.output_tokens)


def requests(load: float, *, count: int = 600) -> list[Request]:
    with TRACE.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))[:count]
    draw = random.Random(11)
    work_s = sum(
        int(r["prompt_tokens"]) / SPEED.prefill_tokens_per_s + int(r["output_tokens"]) * SPEED.step(8) / 8 for r in rows
    )
    stretch = work_s / load / float(rows[-1]["seconds"])
    kinds = draw.choices(list(PriorityClass), weights=(50, 30, 20), k=len(rows))
    prices = {PriorityClass.INTERACTIVE: 1000, PriorityClass.STANDARD: 500, PriorityClass.BATCH: 200}
    return [
        Request(
            JobTerms(
                job_id=JobId(f"{i:04}"), model="m", priority=kind, deadline_s=600.0, max_tokens=1024,
                bid_per_mtok=round(prices[kind] * draw.lognormvariate(0, 0.5)),
            ),
            at=float(row["seconds"]) * stretch,
            prompt_tokens=int(row["prompt_tokens"]),
            output_tokens=max(1, int(row["output_tokens"])),
        )
        for i, (row, kind) in enumerate(zip(rows, kinds, strict=True))
    ]


def run(load: float, policy: FirstCome | Scheduled) -> list[Request]:
    """Play the trace to its end; returns the requests with their times."""
    everything = requests(load)
    known = {r.terms.job_id: r for r in everything}
    coming, now = list(reversed(everything)), 0.0
    running: list[Request] = []
    while coming or running:
        while coming and coming[-1].at <= now:
            arrived = coming.pop()
            policy.arrive(arrived, arrived.at)
        for job_id in policy.start(SPEED.slots - len(running), now):
            known[job_id].started_at, known[job_id].left_to_read = now, known[job_id].prompt_tokens
            running.append(known[job_id])
        if not running:
            now = max(now, coming[-1].at) if coming else now
            continue
        now += step(running, now)
        for ended in [r for r in running if r.ended_at is not None]:
            running.remove(ended)
            policy.leave(ended, now)
    return everything


def step(running: Sequence[Request], now: float) -> float:
    """One step of the peer: at most one chunk of prompt, and one token for each that has been read. Returns seconds."""
    room, reading = SPEED.chunk, 0
    writing = [r for r in running if r.left_to_read == 0]
    for r in running:
        taken = min(room, r.left_to_read)
        r.left_to_read -= taken
        room -= taken
        reading += taken
    took_s = reading / SPEED.prefill_tokens_per_s + (SPEED.step(len(writing)) if writing else 0.0)
    for r in writing:
        r.written += 1
        r.first_at = r.first_at if r.first_at is not None else now + took_s
        if r.written >= r.output_tokens:
            r.ended_at = now + took_s
    return took_s


def met(found: Sequence[Request]) -> float:
    return sum(r.is_on_time() for r in found) / len(found)


def value(found: Sequence[Request]) -> float:
    """What on-time work is worth, in the bids' own money; late work is paid three tenths."""
    paid = [r.terms.bid_per_mtok * (r.output_tokens + 0.25 * r.prompt_tokens) for r in found]
    kept = [1.0 if r.is_on_time() else 0.3 if r.ended_at is not None else 0.0 for r in found]
    return sum(p * k for p, k in zip(paid, kept, strict=True))


def longest_wait_over_cap(found: Sequence[Request]) -> float:
    waits = [
        r.started_at - r.at - service_class(r.terms.priority).wait_cap_s for r in found if r.started_at is not None
    ]
    return max(waits)


@pytest.fixture(scope="module")
def overload() -> tuple[list[Request], int]:
    """The trace at one and a half times what the peer can do, and how many jobs were admitted."""
    policy = Scheduled()
    return run(1.5, policy), policy.admitted


def test_below_capacity_nearly_every_deadline_is_met() -> None:
    assert met(run(0.9, Scheduled())) >= 0.97


def test_more_deadlines_are_met_than_first_come_first_served(overload: tuple[list[Request], int]) -> None:
    ours, theirs = met(overload[0]), met(run(1.5, FirstCome()))
    assert ours >= 0.65
    assert ours >= 2 * theirs


def test_what_is_admitted_under_overload_is_on_time(overload: tuple[list[Request], int]) -> None:
    found, admitted = overload
    assert sum(r.is_on_time() for r in found) / admitted >= 0.97


def test_nobody_waits_longer_than_the_cap_and_the_backlog(overload: tuple[list[Request], int]) -> None:
    assert longest_wait_over_cap(overload[0]) <= BACKLOG_CAP_S


def test_no_admitted_job_is_forgotten(overload: tuple[list[Request], int]) -> None:
    found, admitted = overload
    assert sum(r.ended_at is not None for r in found) == admitted


def test_a_reserve_price_earns_more_under_overload(overload: tuple[list[Request], int]) -> None:
    assert value(run(1.5, Scheduled(Reserve.ON))) > value(overload[0])
