"""Our way to choose: what the service model says of each method, its few constants and what it gets wrong learned from
other cells.

Never sees the cell it chooses for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from core.metamodel.service import Service, Speeds, served
from core.metamodel.timetable import COSTS, Switches, timetable
from tests.bench.choice_cells import FILE_FEATURES, NONE, Cell, Vector
from tests.bench.choosers import Chooser, picks
from tests.bench.grid_rows import Model
from tests.bench.grid_workloads import PROBES, SLOT_CONTEXT
from tests.bench.switches import SLOTS

# Seconds of one unit of what a file's own speeds do not tell, before it is fitted.
STEP_S = 1e-4
RESHAPE_S = 1e-3
DEPTH_S = 1e-10
DRAW_S = 2e-5
JOB_S = 3e-4
LOOK_UP_S = 6e-4
COPY_S = 1e-8
# What of the time of an answer's token a pass over the weights takes, however many rows it has.
PASS_SHARE = 0.5
SOLVED = [COSTS.index(name) for name in ("narrow_rows", "odd_rows", "wide_rows")]
KNOWN = [COSTS.index(name) for name in ("steps", "passes", "reshaped", "drawn", "begun")]
SWEEPS = 300
# How far what was wrong on one cell tells of another, in spreads of a feature, and how far it is believed at all: fixed
# on an earlier grid.
NEAR_FILE = 2.0
NEAR_WORKLOAD = 0.15
DOUBT = 0.2


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
    """The service model, and what it got wrong on cells like this one: simple kriging, which says nothing of a cell
    unlike all others."""
    gains, place = gains_by_service(train), _places(train)
    points = np.array([place(cell) for cell in train])
    wrong = np.array([cell.gain - gains(cell) for cell in train])
    alike = np.array([_likeness(points, point) for point in points])
    weights = np.linalg.solve(alike + DOUBT * np.eye(len(train)), wrong)
    return lambda cell: picks(gains(cell) + _likeness(points, place(cell)) @ weights)


def _places(train: Sequence[Cell]) -> Callable[[Cell], Vector]:
    """Where a cell lies among others: its features by how far they spread, so that files, and workloads, are alike
    within a distance of about one."""
    features = np.array([cell.features for cell in train])
    middle, spread = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-9)
    count = features.shape[1] - FILE_FEATURES
    scale = np.array([NEAR_FILE * np.sqrt(FILE_FEATURES)] * FILE_FEATURES + [NEAR_WORKLOAD * np.sqrt(count)] * count)
    return lambda cell: np.asarray((cell.features - middle) / spread / scale)


def _likeness(points: Vector, point: Vector) -> Vector:
    return np.asarray(np.exp(-0.5 * ((points - point) ** 2).sum(axis=1)))


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
        step_s=STEP_S, pass_s=PASS_SHARE / m.decode_1, reshape_s=RESHAPE_S, row_s=1.0, odd_s=1.0, read_s=1.0,
        read_depth_s=depth_s, drawn_depth_s=depth_s, draw_s=DRAW_S, job_s=JOB_S, look_up_s=LOOK_UP_S,
        copy_s=COPY_S * cache,
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
