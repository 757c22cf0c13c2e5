"""The laws of bounds: they hold on devices that nobody has seen, each device counting the same."""

from __future__ import annotations

import numpy as np

from core.metamodel.calibration import cover, nested, spread
from core.metamodel.evaluation import OURS, Told
from core.metamodel.features import Case
from core.metamodel.figures import Figure
from core.metamodel.predictor import Phase, Spread

CASE = Case(
    bandwidth_gbs=500.0, matrix_tflops=50.0, file_bytes=4e9, active_bytes=4e9, parameters=7e9, active_parameters=7e9,
    layers=32.0, hidden=4096.0, bits=4.6,
)  # fmt: skip


def told(errors: dict[str, list[float]], *, weight: float = 1.0) -> Told:
    """A prediction of 1 token per second for each row, and a measured speed e^error times that."""
    rows = [(device, error) for device, found in errors.items() for error in found]
    figures = tuple(
        Figure(device, "s", "m", Phase.DECODE, CASE, float(np.exp(error)), weight, 1, "") for device, error in rows
    )
    none = np.zeros(len(rows))
    return Told(Phase.DECODE, figures, np.array([error for _, error in rows]), {OURS: none}, none)


def drawn(devices: int, rows: int) -> dict[str, list[float]]:
    chance = np.random.default_rng(7)
    own = chance.normal(0, 0.2, devices)
    return {f"gpu{i}": (own[i] + chance.normal(0, 0.1, rows)).tolist() for i in range(devices)}


def test_four_fifths_of_unseen_devices_rows_are_inside() -> None:
    cold, _ = nested(told(drawn(60, 8)))
    assert 0.75 <= cold.inside_by_device <= 0.85 and cold.broken <= 0.12


def test_a_device_with_many_rows_has_no_more_say_than_another() -> None:
    few = drawn(20, 4)
    many = few | {"gpu0": few["gpu0"] * 50}
    a, b = spread(told(few)), spread(told(many))
    assert abs(a.low - b.low) < 0.02 and abs(a.high - b.high) < 0.02


def test_a_device_unlike_all_others_is_not_covered_by_itself() -> None:
    odd = told(drawn(10, 4) | {"odd": [-3.0] * 4})
    cold, _ = nested(odd)
    given, _ = cover(odd, Spread(low=-9.0, high=9.0))
    assert cold.broken >= 4 / 44 and given.inside == 1.0


def test_what_nobody_has_checked_makes_no_bounds() -> None:
    checked, unchecked = drawn(10, 4), {"rumour": [-3.0] * 40}
    mixed = told(checked)
    both = Told(
        Phase.DECODE,
        (*mixed.figures, *told(unchecked, weight=0.4).figures),
        np.concatenate([mixed.measured, np.full(40, -3.0)]),
        {OURS: np.zeros(80)},
        np.zeros(80),
    )
    assert spread(both) == spread(mixed)


def test_without_a_row_there_is_nothing_to_say() -> None:
    cold, own = nested(told({}))
    assert cold.rows == own.rows == 0
