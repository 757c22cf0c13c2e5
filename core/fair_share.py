"""Whether one payer fills more of the queue than is fair while others ask.

Pure: `now` is an argument, in seconds. Nobody is kept out while nobody else asks, and nobody is ranked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from core.job import JobId
from core.scheduler import Scheduler

ASKED_LATELY_S = 30.0
MOST_SHARE = 0.5
MAX_ASKERS = 64


class PaidJob(Protocol):
    """A job, as far as it matters here."""

    @property
    def payer_id(self) -> str:
        """Who pays for it."""


class FairShare:
    """Who asked lately, at one queue. places: how many jobs may be quoted at once."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._asked: dict[str, float] = {}

    def refusal(self, payer: str, jobs: Mapping[JobId, PaidJob], *, scheduler: Scheduler, now: float) -> str | None:
        """Why this payer's next job has to wait, or None. jobs are all that are quoted, waiting or running."""
        self._asked = {other: at for other, at in self._asked.items() if now - at < ASKED_LATELY_S}
        if payer in self._asked or len(self._asked) < MAX_ASKERS:
            self._asked[payer] = now
        is_alone = not self._asked.keys() - {payer}
        ours = {job_id for job_id, job in jobs.items() if job.payer_id == payer}
        if is_alone or max(scheduler.share(ours), len(ours) / self._places) < MOST_SHARE:
            return None
        return "Others ask too, and half of the queue is this payer's already."
