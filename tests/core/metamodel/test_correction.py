"""The laws of learning from one's own runs: near counts, far counts less, nothing seen changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.metamodel.columns import columns
from core.metamodel.correction import Correction, Observation, nearness
from core.metamodel.features import Case

CASE = Case(
    bandwidth_gbs=500.0, matrix_tflops=50.0, file_bytes=4e9, active_bytes=4e9, parameters=7e9, active_parameters=7e9,
    layers=32.0, hidden=4096.0, bits=4.6,
)
LARGER = msgspec.structs.replace(CASE, active_bytes=8e9, file_bytes=8e9, active_parameters=14e9, parameters=14e9)
SPEED = st.floats(0.1, 1000)


def test_nothing_seen_changes_nothing() -> None:
    assert offset(CASE, ()) == 0
    assert step_offset(CASE, (), predicted=10.0, outside=1.0) == 0


@given(measured=SPEED, predicted=SPEED)
def test_the_measured_cell_comes_out_as_measured(measured: float, predicted: float) -> None:
    change = offset(CASE, (Observation(CASE, measured, predicted),))
    assert abs(change - log(measured / predicted)) <= 0.03 * abs(log(measured / predicted)) + 1e-9


@given(measured=SPEED, predicted=SPEED)
def test_no_measurement_moves_another_model_by_more_than_its_own_residual(measured: float, predicted: float) -> None:
    change = offset(LARGER, (Observation(CASE, measured, predicted),))
    assert abs(change) < abs(log(measured / predicted)) or measured == predicted
    assert change * log(measured / predicted) >= 0


def test_time_between_the_layers_is_the_same_for_each_step() -> None:
    seen = (Observation(CASE, measured=1000.0, predicted=5000.0),)
    half = msgspec.structs.replace(CASE, active_bytes=2e9, file_bytes=2e9)
    speed = 10_000.0 * exp(step_offset(half, seen, predicted=10_000.0, outside=1.0))
    assert abs(speed - 1 / (1 / 10_000 + 0.0008)) < 1


def test_within_the_range_a_factor_is_a_factor() -> None:
    seen = (Observation(CASE, measured=40.0, predicted=50.0),)
    assert step_offset(LARGER, seen, predicted=25.0, outside=0.0) == offset(LARGER, seen)


def test_more_runs_tell_more_and_the_own_cell_tells_nearly_all() -> None:
    target = columns([LARGER])
    far = Observation(CASE, 40.0, 50.0)
    near = Observation(msgspec.structs.replace(LARGER, depth=100.0), 20.0, 25.0)
    told = [float(Correction(seen).nearness(target)[0]) for seen in ((), (far,), (far, near), (near,))]
    assert told[0] == 0.0 < told[1] < told[3] <= told[2] <= 1.0


def test_the_same_run_twice_counts_once_and_a_little() -> None:
    run = Observation(CASE, 40.0, 50.0)
    once, twice = offset(LARGER, (run,)), offset(LARGER, (run, run))
    assert once < 0 and twice < 0 and abs(twice / once - 1) < 0.05


def test_likeness_is_one_for_the_same_question_and_the_same_both_ways() -> None:
    assert nearness(CASE, CASE) == 1.0 > nearness(CASE, LARGER) == nearness(LARGER, CASE) > 0


def test_beyond_the_range_ones_own_cell_outweighs_far_ones() -> None:
    tiny = msgspec.structs.replace(CASE, active_bytes=CASE.active_bytes / 900, active_parameters=CASE.parameters / 900)
    far = tuple(Observation(CASE, measured=4.0, predicted=10.0) for _ in range(3))
    own = Observation(tiny, measured=90.0, predicted=100.0)
    for found in (
        offset(tiny, (*far, own), outside=1.0),
        step_offset(tiny, (*far, own), predicted=100.0, outside=1.0),
    ):
        assert abs(exp(found) - 0.9) < 0.05


def offset(target: Case, seen: Sequence[Observation], *, outside: float = 0.0) -> float:
    """Correction.offsets of one question."""
    return float(Correction(seen).offsets(columns([target]), outside=np.array([outside]))[0])


def step_offset(target: Case, seen: Sequence[Observation], *, predicted: float, outside: float) -> float:
    """Correction.step_offsets of one question."""
    found = Correction(seen).step_offsets(
        columns([target]), predicted=np.array([predicted]), outside=np.array([outside])
    )
    return float(found[0])
