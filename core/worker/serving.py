"""The child's loop: take commands between steps, step while anything can go on, beat while it cannot.

Plain and blocking. Never knows who asks: a job is text and sampling.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from core.runtimes.runtime import Runtime, RuntimeFault, open_runtime
from core.worker.messages import (
    Allow,
    Cancel,
    Completed,
    Count,
    Counted,
    Embed,
    FaultKind,
    Generate,
    Heartbeat,
    JobFault,
    Load,
    Preempt,
    Progress,
    Resume,
    WorkerCommand,
    WorkerReport,
)
from core.worker.outbox import Outbox
from core.worker.wire import Wire

HEARTBEAT_S = 0.5


class Server:
    """Owns the runtime of one child. run never returns: the end of stdin ends the process."""

    def __init__(self, wire: Wire, run_task: Callable[[WorkerCommand], None]) -> None:
        self._wire = wire
        self._run_task = run_task
        self._runtime: Runtime | None = None
        self._outbox = Outbox()
        self._steps = 0
        self._told_at = 0.0

    def run(self) -> None:
        """Serve for ever."""
        while True:
            command = self._wire.receive(timeout_s=self._patience_s())
            while command is not None:
                self._obey(command)
                command = self._wire.receive(timeout_s=0)
            if self._runtime is not None and self._runtime.has_jobs:
                self._advance(self._runtime)

    def _patience_s(self) -> float | None:
        if self._runtime is None or not self._runtime.has_jobs:
            return None
        return 0 if self._runtime.can_step else HEARTBEAT_S

    def _advance(self, runtime: Runtime) -> None:
        stepped: list[WorkerReport] = []
        if runtime.can_step:
            stepped = runtime.step()
            self._steps += 1
        now = time.monotonic()
        reports = self._outbox.put(stepped, now)
        if not runtime.can_step:
            reports += self._outbox.flush()
        if not reports and now - self._told_at >= HEARTBEAT_S:
            reports = [Heartbeat(self._steps, runtime.stats)]
        self._tell(reports, now)

    def _tell(self, reports: list[WorkerReport], now: float) -> None:
        for report in reports:
            if isinstance(report, Completed | JobFault):
                self._outbox.forget(report.job_id)
        if reports:
            self._told_at = now
            self._wire.send(*reports)

    def _obey(self, command: WorkerCommand) -> None:
        match command:
            case Load():
                self._load(command)
            case Generate():
                self._for_job(command, lambda runtime: runtime.add(command))
            case Count():
                self._for_job(command, lambda runtime: self._count(runtime, command))
            case Allow():
                if self._runtime is not None:
                    self._runtime.allow(command.job_id, command.allowance)
            case Embed():
                self._for_job(command, lambda runtime: self._wire.send(runtime.embed(command)))
            case Resume():
                if self._runtime is not None:
                    self._runtime.resume(command.job_id)
            case Cancel() | Preempt():
                self._interrupt(command)
            case _:
                self._run_task(command)

    def _interrupt(self, command: Cancel | Preempt) -> None:
        """End or put aside a job, after everything that it has said."""
        if self._runtime is None:
            return
        act = self._runtime.cancel if isinstance(command, Cancel) else self._runtime.preempt
        now = time.monotonic()
        self._tell(self._outbox.put(act(command.job_id), now), now)

    def _load(self, command: Load) -> None:
        self._runtime = self._runtime or open_runtime(command.plan.runtime, self._tell_load)
        self._wire.send(self._runtime.load(command.plan, command.path))

    def _tell_load(self, fraction: float) -> None:
        now = time.monotonic()
        if now - self._told_at >= HEARTBEAT_S:
            self._told_at = now
            self._wire.send(Progress(fraction, "Loading the model"))

    def _for_job(self, command: Generate | Count | Embed, act: Callable[[Runtime], None]) -> None:
        try:
            if self._runtime is None:
                raise RuntimeFault(FaultKind.BAD_REQUEST, "No model is loaded.")
            act(self._runtime)
        except RuntimeFault as fault:
            self._wire.send(JobFault(command.job_id, fault.kind, fault.message))

    def _count(self, runtime: Runtime, command: Count) -> None:
        self._wire.send(Counted(command.job_id, runtime.count(command)))
