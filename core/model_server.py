"""One loaded model, kept serving: a worker child under supervision, started again with back-off when it dies.

Never raises because of the child: its death is a report like any other. Holds the scheduler of its model.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from core import events as e
from core.admission import speed_of
from core.job import ChatMessage, JobId
from core.journal import Journal
from core.plan import Choice, Plan
from core.scheduler import Scheduler
from core.worker import messages as w
from core.worker.process import WorkerDied, WorkerProcess, open_worker

LOAD_TIMEOUT_S = 600.0
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 60.0
STEADY_AFTER_S = 60.0

Handler = Callable[[w.WorkerReport | WorkerDied], Awaitable[None]]


class LoadFailed(Exception):
    """The model could not be loaded by this plan; fault says why."""

    def __init__(self, fault: w.Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class ModelServer:
    """Owns the worker of one model and plan, and the queue before it."""

    def __init__(self, journal: Journal, choice: Choice, *, path: Path, log: Path) -> None:
        self.plan: Plan = choice.plan
        self.scheduler = Scheduler(speed_of(choice.plan, choice.estimate))
        self._journal = journal
        self._path = path
        self._log = log
        self._worker: WorkerProcess | None = None
        self._counts: dict[JobId, trio.MemorySendChannel[int]] = {}

    @property
    def is_ready(self) -> bool:
        """True while a worker has the model in memory."""
        return self._worker is not None

    async def send(self, command: w.WorkerCommand) -> None:
        """Tell the worker; silently nothing when there is none: its death is reported separately."""
        if self._worker is not None:
            await self._worker.send(command)

    async def count(self, job_id: JobId, messages: tuple[ChatMessage, ...], *, deadline_s: float) -> int | None:
        """Prompt tokens of these messages, or None when the worker does not answer in time."""
        send, receive = trio.open_memory_channel[int](1)
        self._counts[job_id] = send
        try:
            with trio.move_on_after(deadline_s):
                await self.send(w.Count(job_id, messages))
                async for prompt_tokens in receive:
                    return prompt_tokens
        finally:
            self._counts.pop(job_id, None)
        return None

    async def run(
        self, handler: Handler, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled. Started when the model is loaded the first time; raises LoadFailed if it cannot be."""
        retry_s = FIRST_RETRY_S
        is_first = True
        while True:
            began = time.monotonic()
            died = await self._serve_once(handler, task_status if is_first else trio.TASK_STATUS_IGNORED)
            is_first = False
            retry_s = FIRST_RETRY_S if time.monotonic() - began > STEADY_AFTER_S else retry_s
            self._journal.announce(e.WorkerDied(time.time(), died.reason, retry_s))
            await handler(died)
            await trio.sleep(retry_s)
            retry_s = min(LONGEST_RETRY_S, retry_s * 2)

    async def _serve_once(self, handler: Handler, task_status: trio.TaskStatus[None]) -> WorkerDied:
        async with open_worker(log=self._log) as worker:
            await worker.send(w.Load(self.plan, str(self._path)))
            loaded = await self._until_loaded(worker)
            if isinstance(loaded, WorkerDied):
                if task_status is not trio.TASK_STATUS_IGNORED:
                    raise LoadFailed(w.Fault(w.FaultKind.INTERNAL, loaded.reason))
                return loaded
            self._worker = worker
            try:
                self._announce(loaded)
                task_status.started()
                await handler(loaded)
                return await self._pump(worker, handler)
            finally:
                self._worker = None

    async def _pump(self, worker: WorkerProcess, handler: Handler) -> WorkerDied:
        async for report in worker.reports:
            if isinstance(report, WorkerDied):
                return report
            await self._take(report, handler)
        return WorkerDied("it closed its pipe", None)

    async def _until_loaded(self, worker: WorkerProcess) -> w.Loaded | WorkerDied:
        with trio.move_on_after(LOAD_TIMEOUT_S):
            async for report in worker.reports:
                if isinstance(report, w.Loaded | WorkerDied):
                    return report
                if isinstance(report, w.Fault):
                    raise LoadFailed(report)
        return WorkerDied(f"it did not load the model within {LOAD_TIMEOUT_S:.0f} s", None)

    async def _take(self, report: w.WorkerReport, handler: Handler) -> None:
        match report:
            case w.Counted() if report.job_id in self._counts:
                self._counts.pop(report.job_id).send_nowait(report.prompt_tokens)
            case w.JobFault() if report.job_id in self._counts:
                self._counts.pop(report.job_id).close()
            case _:
                await handler(report)

    def _announce(self, loaded: w.Loaded) -> None:
        self._journal.announce(
            e.WorkerStarted(
                time.time(),
                self.plan.model,
                self.plan.quantization,
                loaded.load_s,
                loaded.memory_bytes,
                loaded.device_bytes,
            )
        )
