"""Gather what several quick steps say into one frame: a small model makes a thousand steps a second, and every frame
costs the engine more than the step cost us.

Pure: `now` is an argument. Never holds back a first text, an end or a fault, and never changes the order within a job.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.job import JobId, TokenLogprob
from core.worker.messages import Chunk, Chunks, Started, WorkerReport

HOLD_S = 0.02


class Outbox:
    """Chunks held back for at most HOLD_S while steps go on."""

    def __init__(self) -> None:
        self._held: dict[JobId, Chunk] = {}
        self._texts: dict[JobId, list[str]] = {}
        self._logprobs: dict[JobId, tuple[TokenLogprob, ...]] = {}
        self._held_since = 0.0
        self._begun: set[JobId] = set()

    def put(self, reports: Sequence[WorkerReport], now: float) -> list[WorkerReport]:
        """Take a step's reports; what must be sent now, in order."""
        if not self._held:
            self._held_since = now
        is_due = now - self._held_since >= HOLD_S
        starts: list[WorkerReport] = []
        others: list[WorkerReport] = []
        for report in reports:
            if isinstance(report, Chunks):
                for chunk in report.chunks:
                    is_due |= self._hold(chunk)
            else:
                (starts if isinstance(report, Started) else others).append(report)
        return [*starts, *self.flush(), *others] if is_due or starts or others else []

    def flush(self) -> list[WorkerReport]:
        """Everything that is held back, as one Chunks or nothing."""
        if not self._held:
            return []
        chunks = tuple(
            Chunk(job_id, "".join(self._texts[job_id]), last.completion_tokens, self._logprobs.get(job_id, ()))
            for job_id, last in self._held.items()
        )
        self._held.clear()
        self._texts.clear()
        self._logprobs.clear()
        return [Chunks(chunks)]

    def forget(self, job_id: JobId) -> None:
        """The job has ended; its id may be used again."""
        self._begun.discard(job_id)

    def _hold(self, chunk: Chunk) -> bool:
        """True when this is a job's first text."""
        self._held[chunk.job_id] = chunk
        self._texts.setdefault(chunk.job_id, []).append(chunk.text)
        if chunk.logprobs:
            self._logprobs[chunk.job_id] = self._logprobs.get(chunk.job_id, ()) + chunk.logprobs
        is_first = chunk.job_id not in self._begun
        self._begun.add(chunk.job_id)
        return is_first
