"""How fast jobs really are beside what the plan's estimate says: what is promised next follows what was measured.

Pure. One odd job moves a promise only so far, and few jobs move it less than many.
"""

from __future__ import annotations

from math import exp, log

import msgspec

from core.admission import Speed
from core.plan import Estimate
from core.speed_record import MeasuredRun

SHRINK = 1.0
MEMORY_RUNS = 16
STEADY_RUNS = 3
LARGEST_JUMP = log(2)
FARTHEST = log(8)


class Ratio(msgspec.Struct, frozen=True):
    """The mean log of measured over expected, and how many runs it stands on; old runs fade."""

    runs: int = 0
    mean: float = 0.0

    def with_run(self, measured: float, expected: float) -> Ratio:
        """One run more; both numbers are above 0."""
        jump = log(measured / expected) - self.mean
        if self.runs >= STEADY_RUNS:
            jump = min(LARGEST_JUMP, max(-LARGEST_JUMP, jump))
        mean = self.mean + jump * max(1 / (self.runs + 1), 1 / MEMORY_RUNS)
        return Ratio(self.runs + 1, min(FARTHEST, max(-FARTHEST, mean)))

    @property
    def factor(self) -> float:
        """What to multiply an expectation by: 1 before the first run."""
        return exp(self.mean * self.runs / (self.runs + SHRINK))


class Calibration(msgspec.Struct, frozen=True):
    """Seconds of a step and speed of reading, each as a ratio to the estimate that the plan was loaded with."""

    step: Ratio = Ratio()
    prefill: Ratio = Ratio()

    def with_run(self, run: MeasuredRun, loaded: Speed) -> Calibration:
        """One more run by the loaded plan; loaded is its uncorrected speed."""
        step, prefill = self.step, self.prefill
        if run.decode_tokens_per_s > 0:
            step = step.with_run(run.batch / run.decode_tokens_per_s, loaded.step(run.batch))
        if run.prefill_tokens_per_s > 0:
            prefill = prefill.with_run(run.prefill_tokens_per_s, loaded.prefill_tokens_per_s)
        return Calibration(step, prefill)

    def speed(self, loaded: Speed) -> Speed:
        """The scheduler's view, as measured."""
        return msgspec.structs.replace(
            loaded,
            prefill_tokens_per_s=loaded.prefill_tokens_per_s * self.prefill.factor,
            step_s=loaded.step_s * self.step.factor,
        )

    def estimate(self, chosen: Estimate) -> Estimate:
        """The plan's estimate with its bounds, as measured: what offers promise."""
        faster = 1 / self.step.factor
        return msgspec.structs.replace(
            chosen,
            prefill_tokens_per_s=chosen.prefill_tokens_per_s * self.prefill.factor,
            decode_tokens_per_s=chosen.decode_tokens_per_s * faster,
            decode_low_tokens_per_s=chosen.decode_low_tokens_per_s * faster,
            decode_high_tokens_per_s=chosen.decode_high_tokens_per_s * faster,
        )
