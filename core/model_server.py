"""One loaded model, kept serving: a worker child under supervision, started again with back-off when it dies.

Never raises because of the child: its death is a report like any other. Holds the scheduler of its model.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import trio

from core import events as e
from core.admission import speed_of
from core.job import ChatMessage, JobId
from core.journal import Journal
from core.plan import Choice, Plan
from core.scheduler import Scheduler
from core.worker import messages as w
from core.worker.process import Limits, WorkerDied, WorkerProcess, memory_share, open_worker

LOAD_TIMEOUT_S = 600.0
CRASHES = "crashes"

Handler = Callable[[w.WorkerReport | WorkerDied], Awaitable[None]]


class Supervision(msgspec.Struct, frozen=True):
    """How a worker is kept up. Each death in a row doubles the pause before the next start; steady_after_s of service
    forgets them. told_after deaths in a row are trouble that the owner is told of until it is over.

    hang_s of silence while it owes an answer is a hang; memory_bytes None is this machine's usual share.
    """

    first_retry_s: float = 0.5
    longest_retry_s: float = 60.0
    steady_after_s: float = 60.0
    told_after: int = 3
    hang_s: float = 120.0
    memory_bytes: int | None = None

    def retry_s(self, failures: int) -> float:
        """The pause after so many deaths in a row."""
        return min(self.longest_retry_s, self.first_retry_s * 2.0 ** min(failures - 1, 30))

    @property
    def limits(self) -> Limits:
        """What the child is held to."""
        return Limits(self.hang_s, memory_share() if self.memory_bytes is None else self.memory_bytes)


class LoadFailed(Exception):
    """The model could not be loaded by this plan; fault says why."""

    def __init__(self, fault: w.Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class ModelServer:
    """Owns the worker of one model and plan, and the queue before it."""

    def __init__(
        self, journal: Journal, choice: Choice, *, path: Path, log: Path, supervision: Supervision | None = None
    ) -> None:
        self.plan: Plan = choice.plan
        self.scheduler = Scheduler(speed_of(choice.plan, choice.estimate))
        self._journal = journal
        self._path = path
        self._log = log
        self._supervision = supervision or Supervision()
        self._failures = 0
        self._has_loaded = False
        self._worker: WorkerProcess | None = None
        self._counts: dict[JobId, trio.MemorySendChannel[int | str]] = {}

    @property
    def is_ready(self) -> bool:
        """True while a worker has the model in memory."""
        return self._worker is not None

    async def send(self, command: w.WorkerCommand) -> None:
        """Tell the worker; silently nothing when there is none: its death is reported separately."""
        if self._worker is not None:
            await self._worker.send(command)

    async def count(
        self, job_id: JobId, messages: tuple[ChatMessage, ...], *, deadline_s: float
    ) -> int | str | None:
        """Prompt tokens of these messages, why they are none that can be counted, or None: no answer in time."""
        if self._worker is None:
            return None
        send, receive = trio.open_memory_channel[int | str](1)
        self._counts[job_id] = send
        try:
            with trio.move_on_after(deadline_s):
                await self.send(w.Count(job_id, messages))
                async for counted in receive:
                    return counted
        finally:
            self._counts.pop(job_id, None)
        return None

    async def run(
        self, handler: Handler, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled. Started when the model is loaded the first time; raises LoadFailed if it cannot be."""
        try:
            while True:
                died = await self._serve_once(handler, task_status)
                task_status = trio.TASK_STATUS_IGNORED
                self._failures += 1
                retry_s = self._supervision.retry_s(self._failures)
                self._tell_death(died.reason, retry_s)
                await handler(died)
                await trio.sleep(retry_s)
        finally:
            self._forget_failures()

    async def _serve_once(self, handler: Handler, task_status: trio.TaskStatus[None]) -> WorkerDied:
        async with open_worker(log=self._log, limits=self._supervision.limits) as worker:
            await worker.send(w.Load(self.plan, str(self._path)))
            loaded = await self._until_loaded(worker)
            if not isinstance(loaded, w.Loaded):
                return _not_loaded(loaded, has_loaded=self._has_loaded)
            self._has_loaded = True
            self._worker = worker
            try:
                self._announce(loaded, worker.confined)
                task_status.started()
                return await self._serve_until_death(worker, handler, loaded=loaded)
            finally:
                self._worker = None
                for waiting in self._counts.values():
                    waiting.close()

    async def _serve_until_death(
        self, worker: WorkerProcess, handler: Handler, *, loaded: w.Loaded
    ) -> WorkerDied:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._become_steady)
            await handler(loaded)
            died = await self._pump(worker, handler)
            nursery.cancel_scope.cancel()
        return died

    async def _become_steady(self) -> None:
        await trio.sleep(self._supervision.steady_after_s)
        self._forget_failures()

    def _forget_failures(self) -> None:
        if self._failures >= self._supervision.told_after:
            self._journal.announce(e.TroubleFound(time.time(), CRASHES, ""))
        self._failures = 0

    def _tell_death(self, reason: str, retry_s: float) -> None:
        now = time.time()
        self._journal.announce(e.WorkerDied(now, f"{reason}.", retry_s))
        if self._failures >= self._supervision.told_after:
            sentence = (
                f"The worker has stopped {self._failures} times in a row, the last time because {reason}. No jobs are "
                f"served while it is down. It is started again after longer and longer pauses; if it keeps stopping, "
                f"serve another model, and see {self._log.name} in the log folder."
            )
            self._journal.announce(e.TroubleFound(now, CRASHES, sentence))

    async def _pump(self, worker: WorkerProcess, handler: Handler) -> WorkerDied:
        async for report in worker.reports:
            match report:
                case WorkerDied():
                    return report
                case w.Fault():  # of no job, so of all: what a worker is worth after this is not known
                    worker.kill(_said(report))
                case _:
                    await self._take(report, handler)
        return WorkerDied("it closed its pipe", None)

    async def _until_loaded(self, worker: WorkerProcess) -> w.Loaded | w.Fault | WorkerDied:
        with trio.move_on_after(LOAD_TIMEOUT_S):
            async for report in worker.reports:
                if isinstance(report, w.Loaded | w.Fault | WorkerDied):
                    return report
        return WorkerDied(f"it did not load the model within {LOAD_TIMEOUT_S:.0f} s", None)

    async def _take(self, report: w.WorkerReport, handler: Handler) -> None:
        match report:
            case w.Counted() if report.job_id in self._counts:
                self._counts.pop(report.job_id).send_nowait(report.prompt_tokens)
            case w.JobFault() if report.job_id in self._counts:
                self._counts.pop(report.job_id).send_nowait(report.message)
            case _:
                await handler(report)

    def _announce(self, loaded: w.Loaded, confined: w.Confined) -> None:
        self._journal.announce(
            e.WorkerStarted(
                time.time(),
                self.plan.model,
                self.plan.quantization,
                loaded.load_s,
                loaded.memory_bytes,
                loaded.device_bytes,
                confined.sentence,
            )
        )


def _not_loaded(outcome: w.Fault | WorkerDied, *, has_loaded: bool) -> WorkerDied:
    """A death to come back from: what has loaded before, and fails for no reason of its own, may load again. Raises
    LoadFailed when trying the same again is no use."""
    if has_loaded and isinstance(outcome, WorkerDied):
        return outcome
    if isinstance(outcome, WorkerDied):
        sentence = f"The worker stopped while it loaded the model: {outcome.reason}."
        raise LoadFailed(w.Fault(w.FaultKind.INTERNAL, sentence))
    if has_loaded and outcome.kind is w.FaultKind.INTERNAL:
        return WorkerDied(_said(outcome), None)
    raise LoadFailed(outcome)


def _said(fault: w.Fault) -> str:
    return f"it said: {fault.message.rstrip('.')}"
