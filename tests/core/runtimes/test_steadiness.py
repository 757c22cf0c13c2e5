"""Laws of sampling: noisy runs are tried again, nothing is dropped, and whole runs are held against each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.runtimes.steadiness import QUICK, Effort, drift, joined, steady, summarize

EFFORT = Effort(repetitions=4, sample_s=10.0, buffer_bytes=1, matrix=1)


def of(values: list[float]) -> Callable[[], float]:
    left = iter(values)
    return lambda: next(left)


def test_the_first_sample_warms_up_and_does_not_count() -> None:
    found = steady(EFFORT, of([1.0, *[100.0] * 16]))
    assert found.median == 100.0 and len(found.samples) == 16


def test_a_run_that_scatters_is_done_again_and_the_quieter_one_counts() -> None:
    noisy, quiet = [10.0, 100.0] * 8, [50.0, 51.0] * 8
    assert steady(EFFORT, of([1.0, *noisy, *quiet])).samples == tuple(quiet)


def test_a_slow_figure_is_measured_at_least_once() -> None:
    hurried = Effort(repetitions=1, sample_s=0.0, buffer_bytes=1, matrix=1)
    assert len(steady(hurried, of([1.0, 2.0])).samples) == 1
    assert QUICK.rounds == 1


def test_drift_is_what_whole_runs_differ_by() -> None:
    runs = [summarize([100.0, 101.0, 99.0]), summarize([108.0, 110.0, 106.0])]
    assert drift(runs) == pytest.approx(0.08)
    assert len(joined(runs).samples) == 6
    assert drift(runs[:1]) == 0
