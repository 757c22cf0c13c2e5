"""What a worker child asks of an inference library, and the ways in which one can fail.

Never imports a library by itself: open_runtime does, when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from core.job import JobId
from core.plan import Plan
from core.worker.messages import Count, Embed, Embedded, FaultKind, Generate, Loaded, ServingStats, WorkerReport


class RuntimeFault(Exception):
    """The library could not do what it was told; kind and message go to the engine as they are."""

    def __init__(self, kind: FaultKind, message: str, *, free_bytes: int = 0) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.free_bytes = free_bytes


class OutOfMemory(RuntimeFault):
    """Model, KV or compute buffers do not fit; free_bytes is what was free at that moment, 0 if unknown."""

    def __init__(self, message: str, *, free_bytes: int = 0) -> None:
        super().__init__(FaultKind.OUT_OF_MEMORY, message, free_bytes=free_bytes)


class Runtime(Protocol):
    """One loaded model that serves several jobs at once. All calls come from one thread; load and step are slow."""

    def load(self, plan: Plan, path: str) -> Loaded:
        """Load the model by this plan. Raises RuntimeFault."""

    def count(self, asked: Count) -> int:
        """Prompt tokens of these messages, or of this text. Raises RuntimeFault."""

    def embed(self, asked: Embed) -> Embedded:
        """One unit vector for each text, the mean over its tokens or as the model pools. Raises RuntimeFault."""

    def add(self, job: Generate) -> None:
        """Take a job; it starts at the first step that has a free slot. Raises RuntimeFault (BAD_REQUEST)."""

    def allow(self, job_id: JobId, allowance: int) -> None:
        """Raise a job's allowance of completion tokens; an unknown job is ignored: it may have just ended."""

    def cancel(self, job_id: JobId) -> list[WorkerReport]:
        """End a job now; its JobFault(CANCELLED), or nothing when it had already ended."""

    def preempt(self, job_id: JobId) -> list[WorkerReport]:
        """Take a job's slot away until resume; its Preempted, or nothing when it had already ended or has no slot."""

    def resume(self, job_id: JobId) -> None:
        """Seat a preempted job again, before those who never had a slot; an unknown job is ignored."""

    def step(self) -> list[WorkerReport]:
        """Run one batch: at most prefill_chunk prompt tokens and one token of every sequence that may go on."""

    @property
    def has_jobs(self) -> bool:
        """True while any job is here, also when all of them wait for an allowance."""

    @property
    def can_step(self) -> bool:
        """True while a step would do something."""

    @property
    def stats(self) -> ServingStats:
        """Sums since the model was loaded."""

    def unload(self) -> None:
        """Free the model; the runtime can load again."""


def open_runtime(name: str, on_progress: Callable[[float], None] | None = None) -> Runtime:
    """The runtime that plans call by this name; on_progress hears how far a load is, 0 to 1.

    Raises RuntimeFault for one that this build does not have.
    """
    match name:
        case "llama.cpp":
            from core.runtimes.llama_runtime import LlamaRuntime

            return LlamaRuntime(on_progress)
        case "torch":
            return _open_torch(on_progress)
        case _:
            raise RuntimeFault(FaultKind.BAD_REQUEST, f"This build has no runtime called {name}.")


def _open_torch(on_progress: Callable[[float], None] | None) -> Runtime:
    try:
        from core.runtimes.torch_runtime import TorchRuntime
    except (ImportError, OSError) as error:
        sentence = "torch is not installed here; ./starling setup --with-torch brings it."
        raise RuntimeFault(FaultKind.BAD_REQUEST, sentence) from error
    return TorchRuntime(on_progress)
