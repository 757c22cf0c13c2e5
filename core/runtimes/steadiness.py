"""Take samples until they are steady: warm-up first, then repetitions, and once more when they lie too far apart.

Stays within its time: fewer repetitions of what is slow, never fewer than one. Never drops a sample: it keeps all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

MAX_SPREAD = 0.3
MOST_TIMES = 4


class Effort(msgspec.Struct, frozen=True):
    """How long to measure: repetitions of each figure, about how long one lasts, how often everything is repeated."""

    repetitions: int
    sample_s: float
    buffer_bytes: int
    matrix: int
    rounds: int = 1


FULL = Effort(repetitions=5, sample_s=0.4, buffer_bytes=256 << 20, matrix=1024)
QUICK = Effort(repetitions=3, sample_s=0.12, buffer_bytes=96 << 20, matrix=512)
TWICE = Effort(repetitions=4, sample_s=0.25, buffer_bytes=256 << 20, matrix=1024, rounds=2)


class Sampled(msgspec.Struct, frozen=True):
    """Samples of one run (per second), their median, and how far they lie apart: (p90 - p10) / median."""

    samples: tuple[float, ...]
    median: float
    spread: float


def summarize(samples: Sequence[float]) -> Sampled:
    """Median and spread of at least one sample."""
    low, median, high = np.percentile(samples, [10, 50, 90])
    return Sampled(tuple(samples), float(median), float((high - low) / median) if median else 0.0)


def steady(effort: Effort, sample: Callable[[], float]) -> Sampled:
    """Sample until there are enough or time is up; once more when they lie too far apart, then the quieter of both."""
    sample()
    first = summarize(_samples(effort, sample))
    if first.spread <= MAX_SPREAD:
        return first
    second = summarize(_samples(effort, sample))
    return min(first, second, key=lambda s: s.spread)


def joined(runs: Sequence[Sampled]) -> Sampled:
    """Several runs of one figure as one."""
    return summarize([value for run in runs for value in run.samples])


def drift(runs: Sequence[Sampled]) -> float:
    """The most that whole runs of one figure differ by, as a share of the slower one."""
    medians = [run.median for run in runs if run.median > 0]
    return max(medians) / min(medians) - 1 if medians else 0.0


def _samples(effort: Effort, sample: Callable[[], float]) -> list[float]:
    """At most four times as many as asked for where they are quick: a median of more is steadier."""
    end = time.perf_counter() + effort.repetitions * effort.sample_s
    samples = [sample()]
    while len(samples) < MOST_TIMES * effort.repetitions and time.perf_counter() < end:
        samples.append(sample())
    return samples
