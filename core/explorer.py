"""Tries promising plans while nobody wants anything of this machine: each in a throw-away child, ended at once when a
job is asked for or the owner's rules forbid work.

Never decides what is worth a trial (core.metamodel.exploration does), and never tries again what ran out of memory with
no more of it free.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import trio

from core import events as e
from core.device import Device
from core.journal import Journal
from core.memory import FailedLoad, device_key, shape_of
from core.metamodel.fit import Fit, file_bytes
from core.model_card import ModelCard
from core.node_state import NodeState, Presence
from core.plan import Plan
from core.speed_record import MeasuredRun, Place, figure_runs, shape_of_model, thermal_of
from core.store import StoreError
from core.worker.messages import Fault, FaultKind, Heartbeat, PlanTried, Progress, TryPlan, WorkerReport
from core.worker.process import Limits, WorkerDied, WorkerProcess, memory_share, open_worker

LOOK_EVERY_S = 30.0
IDLE_S = 600.0
ROUND_EVERY_S = 6 * 3600.0
TRIAL_S = 120.0
HEED_EVERY_S = 0.5
MAX_LOAD_PERCENT = 25.0
KILLED = "it was killed by"
KILLS = (-9, -6)  # SIGKILL, SIGABRT: not on every system by name

log = logging.getLogger(__name__)

T = TypeVar("T")


class Trial(msgspec.Struct, frozen=True):
    """A plan to try, the card of its model, its device, and the file that it reads."""

    plan: Plan
    card: ModelCard
    device: Device
    path: Path


class ExplorerPorts(msgspec.Struct, frozen=True):
    """What is worth a trial now, whether work is welcome by the owner's rules, how a trial is run, and what is done
    after a whole round."""

    trials: Callable[[], Awaitable[tuple[Trial, ...]]]
    is_welcome: Callable[[], bool]
    attempt: Callable[[TryPlan], Awaitable[WorkerReport]]
    explored: Callable[[], Awaitable[None]]


class Explorer:
    """One a stay in the network."""

    def __init__(self, journal: Journal, ports: ExplorerPorts, *, limit_c: int, idle_s: float = IDLE_S) -> None:
        self._journal = journal
        self._ports = ports
        self._limit_c = limit_c
        self._idle_s = idle_s

    async def run(self) -> None:
        """A round of trials whenever the machine has been idle for long, until cancelled."""
        while True:
            await trio.sleep(LOOK_EVERY_S)
            is_quiet = is_idle(self._journal.state, now=time.time(), for_s=self._idle_s)
            if is_quiet and self._ports.is_welcome() and await self.explore():
                await self._ports.explored()
                await trio.sleep(ROUND_EVERY_S)

    async def explore(self) -> bool:
        """One round; False when a job or a rule ended it early."""
        trials = await self._undisturbed(self._ports.trials)
        for trial in trials or ():
            report = await self._undisturbed(partial(self._ports.attempt, TryPlan(trial.plan, str(trial.path))))
            if report is None:
                return False
            await self._keep(trial, report)
        return trials is not None

    async def _undisturbed(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """The result of a piece of work; None when it was cancelled because the machine is wanted, or must rest."""
        found: list[T] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._heed_jobs, nursery.cancel_scope)
            nursery.start_soon(self._heed_rules, nursery.cancel_scope)
            found.append(await work())
            nursery.cancel_scope.cancel()
        return found[0] if found else None

    async def _heed_jobs(self, work: trio.CancelScope) -> None:
        """Somebody asks for a price, or a job comes: what is tried stops at once. A watch that breaks counts too."""
        with self._journal.watch() as watcher:
            async for numbered in watcher.events:
                if isinstance(numbered.event, e.JobAsked | e.JobQueued | e.LeaveRequested | e.WorkPaused):
                    break
        work.cancel()

    async def _heed_rules(self, work: trio.CancelScope) -> None:
        while self._ports.is_welcome() and not self._journal.state.jobs:
            await trio.sleep(HEED_EVERY_S)
        work.cancel()

    async def _keep(self, trial: Trial, report: WorkerReport) -> None:
        """What was measured, or what did not fit with so much memory free."""
        now = time.time()
        facts: tuple[e.Fact, ...] = ()
        if isinstance(report, PlanTried):
            facts = tuple(e.SpeedMeasured(now, run) for run in self._runs(trial, report, now=now))
        if isinstance(report, Fault) and report.kind is FaultKind.OUT_OF_MEMORY:
            facts = (e.MemoryRanOut(now, self._failure(trial, report)),)
        try:
            await self._journal.record(*facts)
        except StoreError as error:
            log.debug("a trial is not written down: %s", error)

    def _runs(self, trial: Trial, tried: PlanTried, *, now: float) -> tuple[MeasuredRun, ...]:
        state, card, device = self._journal.state, trial.card, trial.device
        runtime = state.machine.runtime if state.machine is not None else ""
        place = Place(device_key(device), device.driver, runtime, thermal_of(state.reading, limit_c=self._limit_c))
        size = file_bytes(card, tried.plan.quantization)
        run = MeasuredRun(now, place, tried.plan, shape_of_model(card), size)
        return figure_runs(run, prefill=tried.prefill_tokens_per_s, decode_by_batch=tried.decode_by_batch)

    def _failure(self, trial: Trial, fault: Fault) -> FailedLoad:
        needed = Fit(self._journal.state.memory).needed_bytes(trial.plan, trial.card, device=trial.device)
        free = fault.free_bytes or trial.device.free_bytes
        return FailedLoad(device_key(trial.device), needed, free, trial.plan.model, shape_of(trial.plan))


async def attempt(command: TryPlan) -> WorkerReport:
    """Try a plan in a throw-away child, which is killed when that is cancelled: closing it politely takes seconds."""
    with trio.move_on_after(TRIAL_S):
        async with open_worker(limits=Limits(TRIAL_S, memory_share())) as worker:
            try:
                await worker.send(command)
                return await _result(worker)
            finally:
                worker.kill()
    return Fault(FaultKind.TIMED_OUT, f"The trial did not end within {TRIAL_S:.0f} s.")


async def _result(worker: WorkerProcess) -> WorkerReport:
    async for report in worker.reports:
        if isinstance(report, WorkerDied):
            return died(report)
        if not isinstance(report, Progress | Heartbeat):
            return report
    return Fault(FaultKind.INTERNAL, "The worker said nothing.")


def died(report: WorkerDied) -> Fault:
    """A child that somebody else killed, or that aborted, had no memory as far as anyone can tell: the kernel and GPU
    drivers say it in no other way, and trying it again could cost the owner's other programs."""
    is_killed = report.exit_code in KILLS and report.reason.startswith(KILLED)
    kind = FaultKind.OUT_OF_MEMORY if is_killed else FaultKind.INTERNAL
    return Fault(kind, f"The worker died: {report.reason}.")


def is_idle(state: NodeState, *, now: float, for_s: float) -> bool:
    """In the network, with nothing to do, and nothing asked, for so long; and its owner is not at work on it either."""
    asked_at = state.demand.asked[-1].at if state.demand.asked else 0.0
    since = max(state.idle_since or now, asked_at)
    load = state.reading.load_percent if state.reading is not None else None
    is_quiet = load is None or load <= MAX_LOAD_PERCENT
    return state.presence is Presence.JOINED and not state.jobs and is_quiet and now - since >= for_s
