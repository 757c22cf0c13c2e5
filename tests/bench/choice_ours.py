"""Our way to choose: what the service model says of each method, its few constants and a small booster on the rest
learned from other cells.

Never sees the cell it chooses for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import lightgbm
import msgspec
import numpy as np

from core.metamodel.service import speeds_of
from tests.bench.choice_cells import METHODS, NONE, Cell, Vector
from tests.bench.choosers import BOOSTING, Chooser, picks
from tests.bench.grid_rows import Model
from tests.bench.switches import SWITCHES

# Seconds of one unit of what the benchmark does not measure, before it is fitted.
STEP_S = 1e-4
RESHAPE_S = 1e-3
DEPTH_S = 1e-10
DRAW_S = 5e-5
JOB_S = 2e-3
LOOK_UP_S = 1e-3
COPY_S = 1e-10
SWEEPS = 300
RESIDUAL = BOOSTING | {"learning_rate": 0.05, "min_data_in_leaf": 12, "lambda_l2": 5.0, "num_leaves": 5}
ROUNDS = 60


def gains_by_service(train: Sequence[Cell]) -> Callable[[Cell], Vector]:
    """Log speed-ups by the timetables alone; a factor on each cost is fitted to the other cells."""
    work = np.array([row for cell in train for row in work_of(cell)])
    took = np.concatenate([cell.seconds for cell in train])
    factors = _not_negative(work / took[:, None], np.ones(len(took)))

    def gains(cell: Cell) -> Vector:
        seconds = np.array(work_of(cell)) @ factors
        return np.asarray(np.log(seconds[NONE] / seconds))

    return gains


def by_service(train: Sequence[Cell]) -> Chooser:
    """The service model alone."""
    gains = gains_by_service(train)
    return lambda cell: picks(gains(cell))


def ours(train: Sequence[Cell]) -> Chooser:
    """The service model, and a booster on what it gets wrong."""
    gains = gains_by_service(train)
    inputs = np.array([row for cell in train for row in _inputs(cell, gains(cell))])
    wrong = np.concatenate([cell.gain - gains(cell) for cell in train])
    booster = lightgbm.train(dict(RESIDUAL), lightgbm.Dataset(inputs, wrong), num_boost_round=ROUNDS)

    def choose(cell: Cell) -> Vector:
        said = gains(cell)
        return picks(said + booster.predict(np.array(_inputs(cell, said))))

    return choose


def work_of(cell: Cell) -> list[Vector]:
    """By method: seconds of each kind of work, by the file's own benchmark."""
    costs = _costs(cell.model)
    return [table.counts.sum(axis=0) * costs for table in cell.tables]


def _costs(m: Model) -> Vector:
    """By the benchmark: step(b) = t0 (1 + alpha b) through 1 and 8 at once; prompts in passes of 256."""
    one, eight = 1 / m.decode_1, 8 / m.decode_8
    row_s = max((eight - one) / 7, 0.02 * one)
    slope = row_s / max(one - row_s, 0.02 * one)
    speeds = speeds_of(m.prefill, m.decode_1, step_slope=slope, chunk_tokens=256)
    cache = m.kv_width * m.layers
    depth_s = DEPTH_S * cache
    known = msgspec.structs.replace(
        speeds, step_s=STEP_S, reshape_s=RESHAPE_S, read_depth_s=depth_s, drawn_depth_s=depth_s, draw_s=DRAW_S,
        job_s=JOB_S, look_up_s=LOOK_UP_S, copy_s=COPY_S * cache,
    )  # fmt: skip
    return np.array(known.costs)


def _inputs(cell: Cell, said: Vector) -> list[list[float]]:
    """By method: its switches, what the service model says, where the time goes, and the cell's features."""
    work = np.array(work_of(cell))
    total = work.sum(axis=1, keepdims=True)
    shares = work / total
    return [
        [*map(float, SWITCHES[method]), said[number], *shares[number], *(work[number] - work[NONE]) / total[NONE],
         *cell.features]
        for number, method in enumerate(METHODS)
    ]  # fmt: skip


def _not_negative(rows: Vector, targets: Vector) -> Vector:
    """Least squares with no factor below zero, one factor after another."""
    square, across = rows.T @ rows, rows.T @ targets
    factors = np.ones(rows.shape[1])
    for _ in range(SWEEPS):
        for k in range(len(factors)):
            if square[k, k] > 0:
                rest = across[k] - square[k] @ factors + square[k, k] * factors[k]
                factors[k] = max(0.0, rest / square[k, k])
    return factors
