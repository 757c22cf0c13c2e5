"""The paper's table on the grid that was measured here: how well each way to choose finds the best switches.

The meta-learning experiment of MetaInf (Du et al., COLM 2025, arXiv 2508.09194), with baselines of the same kinds, on
committed rows: each model file in turn, then each workload in turn, is left out of what is learned from. Speed is in
tokens for a second of the worker's processor, which others on the machine hardly touch; by the wall for comparison.
Measures nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from tests.bench import choosers, grid_rows
from tests.bench.choice_cells import METHODS, Cell, Vector, cells_of
from tests.bench.choice_ours import by_service, factors_of, ours, services_by
from tests.bench.report import Report

# Less than can be told apart counts as the same.
NEAR_TIE = 0.02
OURS = "ours"
LEARNERS: dict[str, choosers.Learner] = {
    "random": choosers.at_random,
    "single best": choosers.single_best,
    "clusters (ISAC-like)": choosers.clusters,
    "factors (ALORS-like)": choosers.factors,
    "random forest": choosers.forest,
    "plain boosting": choosers.boosting,
    "service model alone": by_service,
    OURS: ours,
    "oracle": choosers.oracle,
}
FEW = ("single best", OURS, "oracle")
# What the paper reports on its own data: selection accuracy, F1, acceleration ratio.
PAPER = {
    "ISAC": (0.578, 0.60, 1.10),
    "ALORS": (0.725, 0.71, 1.20),
    "random forest": (0.742, 0.69, 1.25),
    "gradient boosting": (0.815, 0.78, 1.30),
    "MetaInf": (0.898, None, None),
}


class Score(msgspec.Struct, frozen=True):
    """How well one way chose over many cells. ratio: mean speed-up over `none`; regret: mean share of the best speed
    that was lost; gap: how much of what lies between the single best and the oracle was gained."""

    accuracy: float
    macro_f1: float
    ratio: float
    regret: float
    gap: float

    def __str__(self) -> str:
        return (
            f"accuracy {self.accuracy:.3f}   F1 {self.macro_f1:.2f}   acceleration {self.ratio:.3f}"
            f"   regret {100 * self.regret:5.2f} %   gap closed {100 * self.gap:6.1f} %"
        )


def run(*, is_quick: bool) -> Report:
    """The table by both splits; the figures are ours on the harder one."""
    runs, models = grid_rows.read(grid_rows.GRID, grid_rows.Run), grid_rows.read(grid_rows.MODELS, grid_rows.Model)
    cells = cells_of(runs, models)
    if len({c.group for c in cells}) < 2 or len({c.workload for c in cells}) < 2:
        return Report({"cells": float(len(cells))}, failure="There are too few rows: python -m tests.bench.grid")
    splits = _splits(cells, few=is_quick)
    harder = max(splits.values(), key=lambda scores: scores[OURS].regret)
    figures = {
        "accuracy": min(scores[OURS].accuracy for scores in splits.values()),
        "macro_f1": min(scores[OURS].macro_f1 for scores in splits.values()),
        "acceleration_ratio": harder[OURS].ratio,
        "oracle_ratio": harder["oracle"].ratio,
        "mean_regret": harder[OURS].regret,
        "cells": float(len(cells)),
    }
    by_wall = cells_of(runs, models, figure="wall_s")
    walls = {} if is_quick else {f"{split}, by the wall": s for split, s in _splits(by_wall, few=True).items()}
    lines = {f"{split}: {name:<22}": str(s) for split, found in (splits | walls).items() for name, s in found.items()}
    return Report(figures, lines | _labels(cells) | _delivered(by_wall) | _paper())


def _splits(cells: Sequence[Cell], *, few: bool) -> dict[str, dict[str, Score]]:
    """The table by each split; few: of ours alone, between the single best and the oracle."""
    learners = {name: LEARNERS[name] for name in LEARNERS if not few or name in FEW}
    return {
        "unseen model file": table(cells, learners, key=lambda cell: cell.group),
        "unseen workload": table(cells, learners, key=lambda cell: cell.workload),
    }


def table(
    cells: Sequence[Cell], learners: dict[str, choosers.Learner], *, key: Callable[[Cell], str]
) -> dict[str, Score]:
    """Each way's score over all cells, each cell chosen for by what was learned from cells of other keys."""
    odds: dict[str, list[Vector]] = {name: [] for name in learners}
    tested: list[Cell] = []
    for left_out in dict.fromkeys(map(key, cells)):
        train = [cell for cell in cells if key(cell) != left_out]
        test = [cell for cell in cells if key(cell) == left_out]
        tested += test
        for name, learn in learners.items():
            choose = learn(train)
            odds[name] += [choose(cell) for cell in test]
    best = np.array([cell.gain for cell in tested]).max(axis=1)
    single = _mean_gain(tested, odds["single best"])
    room = max(1e-12, float(best.mean()) - single)
    return {name: score(tested, found, gap=(_mean_gain(tested, found) - single) / room) for name, found in odds.items()}


def score(cells: Sequence[Cell], odds: Sequence[Vector], *, gap: float = 0.0) -> Score:
    """Expected over the odds. A method within 2 % of the best counts as right."""
    gains = np.array([cell.gain for cell in cells])
    chosen = np.array(odds)
    best = gains.max(axis=1, keepdims=True)
    right = gains >= best + np.log(1 - NEAR_TIE)
    return Score(
        accuracy=float((chosen * right).sum(axis=1).mean()),
        macro_f1=_macro_f1(chosen, right, best=gains.argmax(axis=1)),
        ratio=float((chosen * np.exp(gains)).sum(axis=1).mean()),
        regret=float((chosen * (1 - np.exp(gains - best))).sum(axis=1).mean()),
        gap=gap,
    )


def _macro_f1(chosen: Vector, right: NDArray[np.bool_], *, best: NDArray[np.int64]) -> float:
    """Over methods that are right somewhere: what is chosen right is of the class that it is chosen as, what is chosen
    wrong was of the best one's."""
    hits = (chosen * right).sum(axis=0)
    picked = chosen.sum(axis=0)
    missed = np.zeros(len(METHODS))
    np.add.at(missed, best, (chosen * ~right).sum(axis=1))
    there = hits + missed > 0
    f1 = 2 * hits / np.maximum(picked + hits + missed, 1e-12)
    return float(f1[there].mean())


def _mean_gain(cells: Sequence[Cell], odds: Sequence[Vector]) -> float:
    return float(np.mean([o @ cell.gain for cell, o in zip(cells, odds, strict=True)]))


def _labels(cells: Sequence[Cell]) -> dict[str, str]:
    """How often each method is the best, and how surely a cell's gains are known."""
    counts = np.bincount([cell.best for cell in cells], minlength=len(METHODS))
    again = [msgspec.structs.replace(cell, gain=cell.halves[1]) for cell in cells]
    twice = score(again, [choosers.picks(cell.halves[0]) for cell in cells])
    best = ", ".join(f"{name} {count}" for name, count in zip(METHODS, counts, strict=True))
    return {"best method of the cells": best, "best of half the turns, judged by the others": str(twice)}


def _delivered(cells: Sequence[Cell]) -> dict[str, str]:
    """How far the service model is off on files that its factors were not fitted to: half of the cells are nearer."""
    wrong: list[list[float]] = []
    for group in dict.fromkeys(cell.group for cell in cells):
        factors = factors_of([cell for cell in cells if cell.group != group])
        for cell in (cell for cell in cells if cell.group == group):
            said = services_by(factors, cell)
            jobs = len(cell.tables[0].asked)
            told = [[s.job_s * jobs for s in said], [s.ttft_s for s in said], [s.stall_s for s in said]]
            seen = [cell.seconds, cell.ttft, cell.stall]
            wrong += np.abs(np.log(np.array(told) / np.maximum(seen, 1e-6))).T.tolist()
    speed, ttft, stall = np.median(wrong, axis=0)
    return {
        "service model, median error": f"speed {100 * speed:.1f} %, first text {100 * ttft:.1f} %,"
        f" longest silence {100 * stall:.1f} %"
    }


def _paper() -> dict[str, str]:
    """The published figures, on the paper's own data: to compare kinds of methods, not numbers."""
    lines = {}
    for name, (accuracy, f1, ratio) in PAPER.items():
        rest = "" if f1 is None else f"   F1 {f1:.2f}   acceleration {ratio:.2f}"
        lines[f"in the paper: {name}"] = f"accuracy {accuracy:.3f}{rest}"
    return lines
