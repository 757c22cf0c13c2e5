"""Ten thousand short jobs through the real desk, server and worker child while the child is crashed, killed and hung.

Every job must end in exactly one state, every token that is billed must have been delivered, and memory must stay flat.
The crashes are spread over the first four fifths; in the last fifth one child serves alone, so that its memory can be
told from that of a new one.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import trio

from assets import asset_path
from core import events as e
from core.job import JobId, JobState, Usage, charge
from core.job_desk import DeskPorts, JobDesk
from core.journal import Journal
from core.lane_book import Terms
from core.model_server import ModelServer, Supervision
from core.payments.channel import PaymentChannel
from core.payments.voucher import Party
from core.plan import Choice, Estimate, Plan
from core.settings import Settings
from core.store import Store
from tests.bench.jobs_requesters import DOMAIN, MODEL, PRICE, WORKER, Payer, Requesters, Tally
from tests.bench.report import Report

JOBS, QUICK_JOBS = 10_000, 300
REQUESTERS = 24
PAYERS = 4
SEED = 11
CRASH_SHARE, KILL_SHARE, HANG_SHARE = 1 / 50, 1 / 200, 1 / 2_500
RESTLESS_SHARE = 0.8
# By then the last child has been warm for a while: its memory is measured from here on.
CALM_SHARE = 0.9
MOST_DELAY_S = 0.05
SAMPLE_S = 0.5
MIB = 1 << 20
PLAN = Plan(
    model=MODEL,
    runtime="llama.cpp",
    quantization="F16",
    slots=16,
    slot_context_tokens=256,
    threads=1,
    prefix_cache=True,
    draft_tokens=4,
)
ESTIMATE = Estimate(10_000.0, 2_000.0, 1_500.0, 2_500.0, 0.05, 64 * MIB, True)
# Deaths that we cause ourselves say nothing about the next one, and 250 pauses of up to a minute would be all that is
# measured: the pause stays short here. Its growth has tests of its own.
SUPERVISION = Supervision(first_retry_s=0.05, longest_retry_s=0.05, hang_s=3.0)


@dataclass
class Harm:
    """What was done to the child."""

    crashes: int = 0
    kills: int = 0
    hangs: int = 0
    engine: list[tuple[int, int]] = field(default_factory=list)
    child: list[tuple[int, int]] = field(default_factory=list)


def run(*, is_quick: bool) -> Report:
    """All jobs, then the books."""
    jobs = QUICK_JOBS if is_quick else JOBS
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(Path(folder), jobs)
        began = time.perf_counter()
        trio.run(bench.serve)
        return bench.report(time.perf_counter() - began)


class _Bench:
    """One desk, one server, a journal on disk, and requesters."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self._jobs = jobs
        self._store = Store(folder / "s.db")
        self._journal = Journal(self._store)
        path = asset_path("demo_model/starling-demo-f16.gguf")
        choice = Choice(PLAN, ESTIMATE, "the benchmark's")
        log = folder / "worker.log"
        self._server = ModelServer(self._journal, choice, path=path, log=log, supervision=SUPERVISION)
        settings = Settings(window_tokens=16, unsecured_credit=1_000_000)
        ports = DeskPorts(lambda: None, lambda: PRICE, self._channel, self._channel, time.time)
        self._desk = JobDesk(self._journal, self._server, terms=Terms(WORKER, DOMAIN, settings), ports=ports)
        self._tally = Tally(jobs)
        self._harm = Harm()
        self._chance = random.Random(SEED)
        self._strikes = self._drawn_strikes()
        self._payers = [Payer(number) for number in range(PAYERS)]

    async def _channel(self, payer: Party) -> PaymentChannel:
        lane = self._journal.state.ledger.lanes.get(payer.id)
        cumulative, signature = (lane.cumulative, lane.signature) if lane is not None else (0, "")
        return PaymentChannel(payer, WORKER.id, cumulative, signature, reserved=1 << 60, free=1_000_000)

    async def serve(self) -> None:
        requesters = Requesters(self._desk, self._tally, payers=self._payers, seed=SEED)
        async with trio.open_nursery() as services:
            await services.start(self._server.run, self._desk.handle)
            services.start_soon(self._desk.run)
            services.start_soon(self._desk.watch_stalls)
            services.start_soon(self._sample)
            async with trio.open_nursery() as asking:
                for _ in range(REQUESTERS):
                    asking.start_soon(self._ask, requesters, services)
            services.cancel_scope.cancel()

    async def _ask(self, requesters: Requesters, services: trio.Nursery) -> None:
        await requesters.ask(self._jobs, on_paid=lambda number: self._maybe_harm(number, services))

    def _drawn_strikes(self) -> dict[int, signal.Signals]:
        """Which jobs' payments bring the child a signal: each kind in its share of all jobs, at jobs of chance."""
        crashes, kills, hangs = (max(1, round(share * self._jobs)) for share in (CRASH_SHARE, KILL_SHARE, HANG_SHARE))
        kinds = [self._chance.choice((signal.SIGSEGV, signal.SIGABRT)) for _ in range(crashes)]
        kinds += [signal.SIGKILL] * kills + [signal.SIGSTOP] * hangs
        numbers = self._chance.sample(range(int(RESTLESS_SHARE * self._jobs)), len(kinds))
        return dict(zip(numbers, kinds, strict=True))

    def _maybe_harm(self, number: int, services: trio.Nursery) -> None:
        if number not in self._strikes:
            return
        kind = self._strikes[number]
        self._harm.crashes += kind in (signal.SIGSEGV, signal.SIGABRT)
        self._harm.kills += kind is signal.SIGKILL
        self._harm.hangs += kind is signal.SIGSTOP
        services.start_soon(self._strike, kind)

    async def _strike(self, number: signal.Signals) -> None:
        """At a moment of chance in the child's service."""
        await trio.sleep(self._chance.random() * MOST_DELAY_S)
        while not self._server.is_ready:
            await trio.sleep(0.01)
        for child in _children():
            os.kill(child.pid, number)

    async def _sample(self) -> None:
        """Resident memory by jobs that have ended."""
        while True:
            await trio.sleep(SAMPLE_S)
            ended = sum(self._tally.ends)
            self._harm.engine.append((ended, psutil.Process().memory_info().rss))
            self._harm.child += [(ended, child.memory_info().rss) for child in _children()[:1]]

    def report(self, took_s: float) -> Report:
        gc.collect()
        books = self._books()
        delivered = sum(self._tally.delivered)
        billed = sum(end.usage.completion_tokens for end in books.ends.values())
        accepted = [lane.cumulative for lane in self._journal.state.ledger.lanes.values()]
        figures: dict[str, float] = {
            "jobs": len(books.queued),
            "lost": len(books.queued - books.ends.keys()) + self._told(0, books),
            "double_final": sum(times > 1 for times in books.times.values()) + self._told(2, books),
            "rss_growth_mib": _growth(self._harm.engine, since=0.2 * self._jobs) / MIB,
            "child_rss_growth_mib": _growth(self._harm.child, since=CALM_SHARE * self._jobs) / MIB,
            "billed_tokens": billed,
            "delivered_tokens": delivered,
            "jobs_billed_wrong": self._wrong(books),
            "unpaid_amount": sum(end.amount for end in books.ends.values()) - sum(accepted),
            "crashes": self._harm.crashes,
            "kills": self._harm.kills,
            "hangs": self._harm.hangs,
            "cancels": self._tally.cancels,
            "jobs_per_s": self._jobs / took_s,
        }
        return Report(figures, {"states": self._states(books)}, _failure(figures))

    def _books(self) -> _Books:
        """What is on disk, which is what counts."""
        books = _Books()
        for _, fact in self._store.facts():
            if isinstance(fact, e.JobQueued):
                books.queued.add(fact.terms.job_id)
            if isinstance(fact, e.JobEnded):
                books.times[fact.job_id] += 1
                books.ends[fact.job_id] = fact
        return books

    def _told(self, times: int, books: _Books) -> int:
        """How many requesters were told of no end (0), or of two and more (2)."""
        ends = [self._tally.ends[_number(job_id)] for job_id in books.queued]
        return sum(count == 0 if times == 0 else count >= times for count in ends)

    def _wrong(self, books: _Books) -> int:
        """Jobs whose bill is not for exactly what their requester was given."""
        return sum(
            end.usage.completion_tokens != self._tally.delivered[_number(job_id)]
            or end.amount != (charge(PRICE, end.usage) if end.usage != Usage() else 0)
            for job_id, end in books.ends.items()
        )

    def _states(self, books: _Books) -> dict[str, Any]:
        states = Counter(end.state for end in books.ends.values())
        said: dict[str, Any] = {state.value: states[state] for state in JobState if states[state]}
        said["asked again"] = dict(self._tally.refusals.most_common(3))
        return said | {"pause after a death": f"{SUPERVISION.longest_retry_s} s"}


class _Books:
    """Jobs by what the journal says of them."""

    def __init__(self) -> None:
        self.queued: set[JobId] = set()
        self.ends: dict[JobId, e.JobEnded] = {}
        self.times: Counter[JobId] = Counter()


def _number(job_id: JobId) -> int:
    return int(job_id.removeprefix("j"))


def _children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


def _growth(samples: list[tuple[int, int]], *, since: float) -> float:
    """From the first fifth to the last of the samples taken after so many jobs; 0 when they are too few to tell."""
    counted = [size for ended, size in samples if ended >= since]
    part = len(counted) // 5
    if part == 0:
        return 0.0
    return statistics.median(counted[-part:]) - statistics.median(counted[:part])


def _failure(figures: dict[str, float]) -> str:
    if figures["lost"] or figures["double_final"]:
        return "A job was lost, or ended twice."
    if figures["billed_tokens"] != figures["delivered_tokens"] or figures["jobs_billed_wrong"]:
        return "What was billed is not what was delivered."
    return ""
