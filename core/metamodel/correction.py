"""What measurements on this machine say about the prediction's error here: a log offset, shrunk by what is alike.

Pure. Kept per device, driver and runtime version: another one forgets it. A prediction's error is taken as a part that
the whole device shares and a part that fades with the distance between two questions (kriging); so one run corrects
everything a little, its own cell almost fully, and three runs are weighed by where they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.metamodel.columns import Columns, Vector, columns
from core.metamodel.features import Case

Table = NDArray[np.float64]
SHARED = 0.6
NOISE = 0.02
_REACH = 0.5


class Observation(msgspec.Struct, frozen=True):
    """One own measurement: the question asked, the speed seen, and what the model had said (tokens per second)."""

    case: Case
    measured: float
    predicted: float


class Correction:
    """What these measurements say about any question on the same device."""

    def __init__(self, seen: Sequence[Observation]) -> None:
        self._cases = columns([o.case for o in seen])
        self._measured = np.array([o.measured for o in seen], dtype=np.float64)
        self._predicted = np.array([o.predicted for o in seen], dtype=np.float64)
        self._residuals = np.log(self._measured / self._predicted)
        alike = _likeness(self._cases, self._cases) + NOISE * np.eye(len(seen))
        self._inverse = np.linalg.inv(alike) if seen else np.zeros((0, 0))

    def weights(self, targets: Columns) -> Table:
        """targets x measurements: how much of each measurement's residual a target takes over."""
        return np.asarray(_likeness(targets, self._cases) @ self._inverse)

    def offsets(self, targets: Columns, *, outside: Vector) -> Vector:
        """Log offsets to add to predictions. Where the model only extrapolates (outside = 1), what was measured is all
        that we know, and counts fully however far it is, the nearest most."""
        count = len(self._residuals)
        if not count:
            return np.zeros(len(targets.batch))
        mean = self._nearby(targets) @ self._residuals * count / (count + NOISE)
        return np.asarray((1 - outside) * (self.weights(targets) @ self._residuals) + outside * mean)

    def step_offsets(self, targets: Columns, *, predicted: Vector, outside: Vector) -> Vector:
        """Log offsets for decoding. Beyond the range, time that no model explains is taken as the same for each step.

        A model far smaller than any in training spends its time between the layers, not on its weights: a quantization
        with half the bytes is then hardly faster, and a plain factor would promise twice the speed.
        """
        factor = self.offsets(targets, outside=outside)
        extra_s = self._cases.batch / self._measured - self._cases.batch / self._predicted
        if not len(extra_s):
            return factor
        here_s = np.maximum(self._nearby(targets) @ extra_s, 0.0)
        slower = np.log(1 + here_s * predicted / targets.batch)
        return np.asarray(np.where(here_s > 0, (1 - outside) * factor - outside * slower, factor))

    def _nearby(self, targets: Columns) -> Table:
        """targets x measurements: shares by nearness, steep enough that a far larger model does not count."""
        apart = _distances(targets, self._cases)
        near = np.exp(-(apart - apart.min(axis=1, keepdims=True)))
        return np.asarray(near / near.sum(axis=1, keepdims=True))

    def nearness(self, targets: Columns) -> Vector:
        """How much of the doubt about each target these measurements take away: 0 nothing, 1 all."""
        likeness = _likeness(targets, self._cases)
        return np.asarray(np.clip(((likeness @ self._inverse) * likeness).sum(axis=1), 0.0, 1.0))


def nearness(a: Case, b: Case) -> float:
    """How alike two questions are: 1 for the same cell, towards 0 far away."""
    return exp(-_REACH * distance(a, b))


def distance(a: Case, b: Case) -> float:
    """How unlike two questions are: 0 for the same cell, about 2 for another size by a factor of e."""
    return float(_distances(columns([a]), columns([b]))[0, 0])


def _likeness(a: Columns, b: Columns) -> Table:
    """How much of the error two questions share, each of a with each of b: 1 for the same cell."""
    return np.asarray(SHARED + (1 - SHARED) * np.exp(-_REACH * _distances(a, b)))


def _distances(a: Columns, b: Columns) -> Table:
    def apart(x: Vector, y: Vector) -> Table:
        return np.asarray(np.abs(np.log(x)[:, None] - np.log(y)[None, :]))

    return np.asarray(
        apart(a.active_bytes, b.active_bytes)
        + apart(a.active_parameters, b.active_parameters)
        + 0.5 * apart(a.batch, b.batch)
        + np.abs(a.host_share[:, None] - b.host_share[None, :])
        + 0.3 * (a.dequant_class[:, None] != b.dequant_class[None, :])
        + 0.3 * apart(256 + a.depth, 256 + b.depth)
        + 0.5 * apart(a.active_bytes / a.file_bytes, b.active_bytes / b.file_bytes)
    )
