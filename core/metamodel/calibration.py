"""Bounds that hold on devices nobody has seen: device-wise conformal, and how well they hold on a device left out.

Pure. Each device counts the same, however many rows it has. Never changes a prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.metamodel.columns import Vector
from core.metamodel.evaluation import OURS, Told, rerun
from core.metamodel.figures import Figure
from core.metamodel.predictor import Spread, bounds, narrowing

UNVERIFIED = 0.5
# Quantiles of a few devices are too near: of n devices the whole correction is 1 / n. A quarter of it covers 80 % of
# devices left out, because the devices of one source are alike.
CORRECTED = 0.25
Mask = NDArray[np.bool_]


class Cover(msgspec.Struct, frozen=True):
    """Shares of rows within their 10 and 90 % bounds, and below the lower one (a broken promise), by row and with
    every device counting the same."""

    rows: int
    inside: float
    inside_by_device: float
    broken: float
    broken_by_device: float


def counts(figure: Figure) -> bool:
    """Bounds are made from our runtime's rows that somebody has checked: the faults of others are not the machine's."""
    return figure.case.runtime == "llama.cpp" and figure.weight > UNVERIFIED


def spread(told: Told, *, name: str = OURS) -> Spread:
    """10 and 90 % of log(measured / said), every device counting by its source's trust; cold, and after one own run."""
    kept = told.where(counts)
    runs = rerun(kept, 1)
    low, high = _quantiles(kept.measured - kept.said[name], kept.figures)
    own = (kept.measured[runs.rows] - runs.said[name]) / narrowing(runs.nearness)
    own_low, own_high = _quantiles(own, [kept.figures[i] for i in runs.rows])
    return Spread(low=low, high=high, own_low=own_low or low, own_high=own_high or high)


def nested(told: Told) -> tuple[Cover, Cover]:
    """Cover cold and after one own run, each device by bounds that were made without it."""
    kept = told.where(counts)
    runs = rerun(kept, 1)
    own = (kept.measured[runs.rows] - runs.said[OURS]) / narrowing(runs.nearness)
    cold = _left_out_cover(kept.measured - kept.said[OURS], kept.figures)
    return cold, _left_out_cover(own, [kept.figures[i] for i in runs.rows])


def cover(told: Told, spread_: Spread) -> tuple[Cover, Cover]:
    """Cover cold and after one own run, by bounds that are given."""
    kept = told.where(counts)
    runs = rerun(kept, 1)
    low, high = bounds(spread_, None)
    cold = kept.measured - kept.said[OURS]
    own = (kept.measured[runs.rows] - runs.said[OURS]) / narrowing(runs.nearness)
    rerun_figures = [kept.figures[i] for i in runs.rows]
    return (
        _cover(cold < low, cold > high, figures=kept.figures),
        _cover(own < spread_.own_low, own > spread_.own_high, figures=rerun_figures),
    )


def _left_out_cover(residuals: Vector, figures: Sequence[Figure]) -> Cover:
    below, above = np.zeros(len(residuals), dtype=bool), np.zeros(len(residuals), dtype=bool)
    names = np.array([f.device for f in figures])
    for name in set(names.tolist()):
        here = names == name
        low, high = _quantiles(residuals[~here], [f for f in figures if f.device != name])
        below[here], above[here] = residuals[here] < low, residuals[here] > high
    return _cover(below, above, figures=figures)


def _cover(below: Mask, above: Mask, *, figures: Sequence[Figure]) -> Cover:
    if not len(below):
        return Cover(0, 0.0, 0.0, 0.0, 0.0)
    weight = _equal(figures)
    inside = ~(below | above)
    return Cover(
        rows=len(below),
        inside=float(inside.mean()),
        inside_by_device=float(np.average(inside, weights=weight)),
        broken=float(below.mean()),
        broken_by_device=float(np.average(below, weights=weight)),
    )


def _quantiles(residuals: Vector, figures: Sequence[Figure]) -> tuple[float, float]:
    """10 and 90 %. A crowd's figures count less: many are of the whole answer, the prompt's time included."""
    if not len(residuals):
        return 0.0, 0.0
    order = np.argsort(residuals, kind="stable")
    weight = (_equal(figures) * np.array([f.weight for f in figures]))[order]
    places = (np.cumsum(weight) - weight / 2) / weight.sum()
    share = min(1.0, 0.9 * (1 + CORRECTED / len({f.device for f in figures})))
    low, high = np.interp([1 - share, share], places, residuals[order])
    return round(float(low), 4), round(float(high), 4)


def _equal(figures: Sequence[Figure]) -> Vector:
    """Weights with which every device counts the same."""
    _, places, rows = np.unique([f.device for f in figures], return_inverse=True, return_counts=True)
    return np.asarray(1 / rows[places])
