"""The engine's end of one worker child: start it, tell it, hear it, end it.

A child's death, hang or nonsense is a value at the end of its reports, never an exception. Never imports a runtime.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import psutil
import trio

from core.framing import FrameDecoder, FramingError, encode_frame
from core.job import JobId
from core.worker import messages as w
from core.worker.confinement import MEMORY_LIMIT_VARIABLE
from core.worker.grants import cache_environment, scratch_environment
from core.worker.lifeline import Lifeline

SEND_S = 10.0
CLOSE_S = 3.0
KILL_S = 5.0
READ_BYTES = 1 << 16
MAX_LOG_BYTES = 1 << 20
KEPT_LOGS = 3
MEMORY_SHARE = 0.75
INSPECT_BYTES = 2 << 30
STOPPED = "it was stopped"
SCRATCH_PREFIX = "starling-worker-"
# What a child may see of our environment: where libraries, drivers and temporary files are. No proxy, no token.
ALLOWED_VARIABLES = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "WINDIR", "USERPROFILE", "LOCALAPPDATA",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LLAMA_CPP_LIB_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_PATH", "CUDA_HOME",
    "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ROCM_PATH",
    "GGML_VK_VISIBLE_DEVICES", "GGML_VK_DISABLE_FUSION", "VK_ICD_FILENAMES", "VK_DRIVER_FILES",
    "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "STARLING_WORKER_SANDBOX", "STARLING_WORKER_READ",
)  # fmt: skip


class WorkerDied(msgspec.Struct, frozen=True):
    """The end of a child: the last of its reports. reason continues "The worker died: ..."; exit_code if it exited."""

    reason: str
    exit_code: int | None


class Limits(msgspec.Struct, frozen=True):
    """hang_s: silence for so long while it owes an answer is a hang. memory_bytes bounds private memory (Linux)."""

    hang_s: float = 120.0
    memory_bytes: int | None = None


class WorkerProcess:
    """Owns one child. Get one from open_worker. reports can be iterated by one task at a time, in several goes."""

    def __init__(self, process: trio.Process, limits: Limits) -> None:
        self.reports = Reports(self)
        self._process = process
        self._limits = limits
        self._decoder: FrameDecoder[w.WorkerReport] = FrameDecoder(w.WorkerReport, max_frame_bytes=w.MAX_FRAME_BYTES)
        self._ready: deque[w.WorkerReport] = deque()
        self._sending = trio.Lock()
        self._waiting: trio.CancelScope | None = None
        self._jobs: set[JobId] = set()
        self._owed = 0
        self._reason = ""
        self._confined = w.Confined(())

    @property
    def confined(self) -> w.Confined:
        """What holds of the child's sandbox; nothing before its first report."""
        return self._confined

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    async def send(self, command: w.WorkerCommand) -> None:
        """Tell the child. A child that does not take it in time is killed; a dead one is told nothing. What is larger
        than a frame may be is answered here, by a fault."""
        frame = encode_frame(command)
        if len(frame) > w.MAX_FRAME_BYTES:
            self._refuse(command, len(frame))
            return
        async with self._sending:
            self._count(command)
            assert self._process.stdin is not None
            # cancelling half a frame would garble all that follows
            with trio.CancelScope(deadline=trio.current_time() + SEND_S, shield=True) as scope:
                try:
                    await self._process.stdin.send_all(frame)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
            if scope.cancelled_caught:
                self.kill(f"it took no command for {SEND_S:.0f} s")

    def kill(self, reason: str = STOPPED) -> None:
        """End the child at once: the only sure way to get its memory back. reason is what its end will be put down to,
        unless it has another already."""
        self._reason = self._reason or reason
        self._process.kill()

    async def close(self) -> None:
        """End the child: close its stdin, wait, then kill."""
        assert self._process.stdin is not None and self._process.stdout is not None
        await self._process.stdin.aclose()
        with trio.move_on_after(CLOSE_S):
            await self._process.wait()
        self._process.kill()
        with trio.move_on_after(KILL_S):
            await self._process.wait()
        await self._process.stdout.aclose()

    async def next_report(self) -> w.WorkerReport | WorkerDied:
        """The next report, or the child's end. Not reading holds the child back by its full pipe."""
        assert self._process.stdout is not None
        while not self._ready:
            with trio.CancelScope(deadline=self._deadline()) as self._waiting:
                received = await self._process.stdout.receive_some(READ_BYTES)
            if self._waiting.cancelled_caught and self._ready:
                break
            if self._waiting.cancelled_caught:
                self.kill(f"it said nothing for {self._limits.hang_s:.0f} s")
                return await self._died()
            try:
                self._ready.extend(filter(self._is_for_others, self._decoder.feed(bytes(received))))
            except FramingError:
                self.kill("it sent something that is no report")
                return await self._died()
            if not received:
                return await self._died()
        report = self._ready.popleft()
        self._settle(report)
        return report

    def _refuse(self, command: w.WorkerCommand, size: int) -> None:
        """Put the answer among the reports, and wake who waits for one."""
        self._count(command)
        sentence = f"The request has {size} bytes; a worker takes at most {w.MAX_FRAME_BYTES}."
        job_id: JobId | None = getattr(command, "job_id", None)
        kind = w.FaultKind.BAD_REQUEST
        self._ready.append(w.Fault(kind, sentence) if job_id is None else w.JobFault(job_id, kind, sentence))
        if self._waiting is not None:
            self._waiting.cancel()

    def _is_for_others(self, report: w.WorkerReport) -> bool:
        if isinstance(report, w.Confined):
            self._confined = report
        return not isinstance(report, w.Confined)

    def _count(self, command: w.WorkerCommand) -> None:
        match command:
            case w.Generate():
                self._jobs.add(command.job_id)
            case w.Allow() | w.Cancel() | w.Preempt() | w.Resume():
                return
            case _:
                self._owed += 1
        if self._waiting is not None:
            self._waiting.deadline = min(self._waiting.deadline, self._deadline())

    def _settle(self, report: w.WorkerReport) -> None:
        match report:
            case w.JobFault() if report.job_id not in self._jobs:
                self._owed = max(0, self._owed - 1)
            case w.Completed() | w.JobFault():
                self._jobs.discard(report.job_id)
            case w.Started() | w.Chunks() | w.Preempted() | w.Progress() | w.Heartbeat():
                pass
            case _:
                self._owed = max(0, self._owed - 1)

    def _deadline(self) -> float:
        is_busy = self._owed > 0 or bool(self._jobs)
        return trio.current_time() + self._limits.hang_s if is_busy else math.inf

    async def _died(self) -> WorkerDied:
        with trio.move_on_after(CLOSE_S):
            await self._process.wait()
        self._process.kill()
        with trio.move_on_after(KILL_S):
            await self._process.wait()
        code = self._process.returncode
        return WorkerDied(self._reason or _reason(code), code)


class Reports:
    """What a child says, ending with exactly one WorkerDied."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._worker = worker
        self._is_over = False

    def __aiter__(self) -> AsyncIterator[w.WorkerReport | WorkerDied]:
        return self

    async def __anext__(self) -> w.WorkerReport | WorkerDied:
        if self._is_over:
            raise StopAsyncIteration
        report = await self._worker.next_report()
        self._is_over = isinstance(report, WorkerDied)
        return report


@asynccontextmanager
async def open_worker(*, log: Path | None = None, limits: Limits | None = None) -> AsyncIterator[WorkerProcess]:
    """A fresh child for the time of the block, with a folder of its own for temporary files, gone with it. What it and
    its libraries print goes to log (None: nowhere)."""
    limits = limits or Limits()
    async with AsyncExitStack() as held:
        lifeline = Lifeline()
        held.callback(lifeline.close)
        stderr = subprocess.DEVNULL if log is None else _open_log(log)
        if log is not None:
            held.callback(os.close, stderr)
        scratch = await held.enter_async_context(_scratch())
        folders = cache_environment(os.environ) | scratch_environment(scratch)
        process = await trio.lowlevel.open_process(
            child_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=child_environment(os.environ, limits) | folders | lifeline.environment,
            cwd=_root(),
            pass_fds=lifeline.passed,
        )
        lifeline.started()
        yield await held.enter_async_context(_closed_after(WorkerProcess(process, limits)))


@asynccontextmanager
async def _scratch() -> AsyncIterator[str]:
    folder = tempfile.mkdtemp(prefix=SCRATCH_PREFIX)
    try:
        yield folder
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


@asynccontextmanager
async def _closed_after(worker: WorkerProcess) -> AsyncIterator[WorkerProcess]:
    try:
        yield worker
    finally:
        with trio.CancelScope(shield=True):
            await worker.close()


async def run_once(
    command: w.WorkerCommand,
    *,
    deadline_s: float,
    on_progress: Callable[[float, str], None] | None = None,
    log: Path | None = None,
) -> w.WorkerReport:
    """Do one thing in a throw-away child. Its death and a missed deadline come back as faults, INTERNAL and
    TIMED_OUT."""
    with trio.move_on_after(deadline_s):
        async with open_worker(log=log, limits=Limits(deadline_s, _memory_for(command))) as worker:
            await worker.send(command)
            return await _result(worker, on_progress)
    return w.Fault(w.FaultKind.TIMED_OUT, f"The worker did not finish within {deadline_s:.0f} s.")


async def _result(worker: WorkerProcess, on_progress: Callable[[float, str], None] | None) -> w.WorkerReport:
    while True:
        report = await worker.next_report()
        match report:
            case w.Progress(fraction=fraction, text=text):
                if on_progress is not None:
                    on_progress(fraction, text)
            case w.Heartbeat():
                continue
            case WorkerDied(reason=reason):
                return w.Fault(w.FaultKind.INTERNAL, f"The worker died: {reason}.")
            case _:
                return report


def memory_share() -> int:
    """The most private memory that a child may ever have: this machine's owner has other programs."""
    return int(MEMORY_SHARE * psutil.virtual_memory().total)


def _memory_for(command: w.WorkerCommand) -> int:
    """A file that nobody has opened yet gets room for itself and its tables, whatever it says that it needs."""
    if not isinstance(command, w.Inspect):
        return memory_share()
    try:
        return min(memory_share(), INSPECT_BYTES + 2 * Path(command.path).stat().st_size)
    except OSError:
        return INSPECT_BYTES


def child_command() -> tuple[str, ...]:
    """How to start a child: as a module, or by the frozen app's own `worker` word."""
    if getattr(sys, "frozen", False):
        return (sys.executable, "worker")
    return (sys.executable, "-m", "core.worker.main")


def child_environment(ours: os._Environ[str] | dict[str, str], limits: Limits) -> dict[str, str]:
    """Only what is allowed, and what the child needs to know."""
    # A thread that waits spins for some microseconds, then sleeps. 160M Q4_0 alone, two threads on two cores, tokens/s:
    # sleeping at once 87, a thousand spins 223, libgomp's own long spin 225; beside a busy core 103, 61, below 6.
    # Large pages for what is allocated: up to a tenth faster (glibc only; elsewhere nobody reads it).
    environment = {"GOMP_SPINCOUNT": "3000", "OPENBLAS_NUM_THREADS": "1"}
    environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    environment |= {name: ours[name] for name in ALLOWED_VARIABLES if name in ours}
    environment |= {"GGML_NO_BACKTRACE": "1", "PYTHONPATH": str(_root())}
    if limits.memory_bytes is not None:
        environment[MEMORY_LIMIT_VARIABLE] = str(limits.memory_bytes)
    return environment


def _root() -> Path:
    return Path(__file__).resolve().parent.parent.parent


def _open_log(log: Path) -> int:
    """Append to the log, after putting a full one aside."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        for number in range(KEPT_LOGS - 1, 0, -1):
            older = log.with_name(f"{log.name}.{number}")
            if older.exists():
                older.replace(log.with_name(f"{log.name}.{number + 1}"))
        log.replace(log.with_name(f"{log.name}.1"))
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _reason(code: int | None) -> str:
    if code is None:
        return "it does not end"
    if code < 0:
        try:
            return f"it was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"it was killed by signal {-code}"
    return f"it ended with code {code}"
