"""Our way to choose: what the service model says of each method, its few constants and a small booster on the rest
learned from other cells.

Never sees the cell it chooses for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import lightgbm
import msgspec
import numpy as np

from core.metamodel.service import Service, Speeds, served
from core.metamodel.timetable import COSTS, Switches, timetable
from tests.bench.choice_cells import METHODS, NONE, Cell, Vector
from tests.bench.choosers import BOOSTING, Chooser, picks
from tests.bench.grid_rows import Model
from tests.bench.grid_workloads import PROBES, SLOT_CONTEXT
from tests.bench.switches import SLOTS, SWITCHES

# Seconds of one unit of what a file's own speeds do not tell, before it is fitted.
STEP_S = 1e-4
RESHAPE_S = 1e-3
DEPTH_S = 1e-10
DRAW_S = 2e-5
JOB_S = 3e-4
LOOK_UP_S = 6e-4
COPY_S = 1e-8
SOLVED = [COSTS.index(name) for name in ("narrow_rows", "odd_rows", "wide_rows")]
KNOWN = [COSTS.index(name) for name in ("steps", "reshaped", "drawn", "begun")]
SWEEPS = 300
RESIDUAL = BOOSTING | {"learning_rate": 0.05, "min_data_in_leaf": 12, "lambda_l2": 5.0, "num_leaves": 5}
ROUNDS = 60
TRUSTS = (0.0, 0.25, 0.5, 0.75, 1.0)
# Every so-manieth file and workload is left out in turn.
FOLDS_EACH = 2


def factors_of(train: Sequence[Cell]) -> Vector:
    """What each kind of work really costs over what a file's own speeds say: the least relative error over cells."""
    work = np.array([row for cell in train for row in work_of(cell)])
    took = np.concatenate([cell.seconds for cell in train])
    return _not_negative(work / took[:, None], np.ones(len(took)))


def services_by(factors: Vector, cell: Cell) -> list[Service]:
    """What each method would deliver in a cell."""
    costs = (_costs(cell.model) * factors)[None]
    return [served(table, costs)[0] for table in cell.tables]


def gains_by_service(train: Sequence[Cell]) -> Callable[[Cell], Vector]:
    """Log speed-ups by the timetables alone."""
    factors = factors_of(train)

    def gains(cell: Cell) -> Vector:
        seconds = np.array(work_of(cell)) @ factors
        return np.asarray(np.log(seconds[NONE] / seconds))

    return gains


def by_service(train: Sequence[Cell]) -> Chooser:
    """The service model alone."""
    gains = gains_by_service(train)
    return lambda cell: picks(gains(cell))


def ours(train: Sequence[Cell]) -> Chooser:
    """The service model, and a booster on what it gets wrong, believed as far as it helps on cells left out of it."""
    trust = _trust(train)
    gains, missing = _learned(train)
    return lambda cell: picks(gains(cell) + trust * missing(cell))


def _trust(train: Sequence[Cell]) -> float:
    """The share of the booster's correction that loses least, over files and over workloads that it did not see."""
    lost = np.zeros(len(TRUSTS))
    for rest, left_out in _folds(train):
        gains, missing = _learned(rest)
        lost += sum(_lost(cell, gains(cell), missing(cell)) for cell in left_out)
    return TRUSTS[int(np.argmin(lost))]


def _folds(train: Sequence[Cell]) -> Iterator[tuple[list[Cell], list[Cell]]]:
    """Cells to learn from, and those of one file or one workload that are left out of them."""
    for key in (lambda cell: cell.group, lambda cell: cell.workload):
        keys = list(dict.fromkeys(map(key, train)))
        for name in keys[::FOLDS_EACH] if len(keys) > 1 else ():
            yield [cell for cell in train if key(cell) != name], [cell for cell in train if key(cell) == name]


def _lost(cell: Cell, said: Vector, missing: Vector) -> Vector:
    """By trust: the share of the best speed that the choice loses."""
    chosen = [int(np.argmax(said + trust * missing)) for trust in TRUSTS]
    return 1 - np.exp(cell.gain[chosen] - cell.gain.max())


def _learned(train: Sequence[Cell]) -> tuple[Callable[[Cell], Vector], Callable[[Cell], Vector]]:
    """What the service model says of a cell, and what a booster says is missing from that."""
    gains = gains_by_service(train)
    inputs = np.array([row for cell in train for row in _inputs(cell, gains(cell))])
    wrong = np.concatenate([cell.gain - gains(cell) for cell in train])
    booster = lightgbm.train(dict(RESIDUAL), lightgbm.Dataset(inputs, wrong), num_boost_round=ROUNDS)
    return gains, lambda cell: np.asarray(booster.predict(np.array(_inputs(cell, gains(cell)))))


def work_of(cell: Cell) -> list[Vector]:
    """By method: seconds of each kind of work, by the file's own speeds."""
    costs = _costs(cell.model)
    return [table.counts.sum(axis=0) * costs for table in cell.tables]


def _costs(m: Model) -> Vector:
    """Seconds of each kind of work, so that the timetables of what was measured of the file alone take as long as that
    did: rows of prompts, rows of answers by fours, and single ones."""
    cache = m.kv_width * m.layers
    depth_s = DEPTH_S * cache
    speeds = Speeds(
        step_s=STEP_S, reshape_s=RESHAPE_S, row_s=1.0, odd_s=1.0, read_s=1.0, read_depth_s=depth_s,
        drawn_depth_s=depth_s, draw_s=DRAW_S, job_s=JOB_S, look_up_s=LOOK_UP_S, copy_s=COPY_S * cache,
    )  # fmt: skip
    costs = np.array(speeds.costs)
    counts = np.array([_probed(m, name) for name in PROBES])
    took = np.array([tokens / getattr(m, name) for name, (_, tokens) in PROBES.items()])
    known = counts[:, KNOWN] @ costs[KNOWN]
    costs[SOLVED] = np.linalg.solve(counts[:, SOLVED], np.maximum(took - known, 0.5 * took))
    least = 0.02 / m.decode_1
    return np.maximum(costs, np.where(np.isin(np.arange(len(costs)), SOLVED), least, 0.0))


def _probed(m: Model, name: str) -> Vector:
    """The counts of a measurement of the file alone."""
    clients, _ = PROBES[name]
    asked = tuple(msgspec.structs.replace(c, prompt_tokens=c.prompt_tokens + m.template_tokens) for c in clients)
    return np.asarray(timetable(asked, Switches(SLOTS, 0, context_tokens=SLOT_CONTEXT)).counts.sum(axis=0))


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
