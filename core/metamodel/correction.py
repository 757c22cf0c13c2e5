"""What measurements on this machine say about the prediction's error here: a shrunk log offset.

Pure. Kept per device, driver and runtime version: another one forgets it.
"""

from __future__ import annotations

from math import exp, log

import msgspec

from core.metamodel.features import Case

SHRINK = 0.3
SAME_CELL_SHRINK = 0.02
_REACH = 0.5


class Observation(msgspec.Struct, frozen=True):
    """One own measurement: the question asked, the speed seen, and what the model had said (tokens per second)."""

    case: Case
    measured: float
    predicted: float


def offset(target: Case, seen: tuple[Observation, ...], *, outside: float = 0.0) -> float:
    """The log offset to add to a prediction: the mean residual of the nearest measurements, shrunk by k / (k + s).

    s is 0.3 for another model and nearly 0 for the very cell that was measured. What was measured far away counts less,
    but where the model only extrapolates (outside = 1) the measurement is all that we know.
    """
    if not seen:
        return 0.0
    near = [nearness(target, o.case) for o in seen]
    mean = sum(w * log(o.measured / o.predicted) for w, o in zip(near, seen, strict=True)) / max(sum(near), 1e-9)
    nearest = outside + (1 - outside) * max(near)
    shrink = SAME_CELL_SHRINK + (1 - nearest) * (SHRINK - SAME_CELL_SHRINK)
    return nearest * mean * len(seen) / (len(seen) + shrink)


def step_offset(target: Case, seen: tuple[Observation, ...], *, predicted: float, outside: float) -> float:
    """The log offset for decoding. Beyond the range, time that no model explains is taken as the same for each step.

    A model far smaller than any in training spends its time between the layers, not on its weights: a quantization
    with half the bytes is then hardly faster, and a plain factor would promise twice the speed.
    """
    factor = offset(target, seen, outside=outside)
    extra_s = [o.case.batch / o.measured - o.case.batch / o.predicted for o in seen]
    if not extra_s or min(extra_s) <= 0:
        return factor
    mean_s = sum(extra_s) / len(extra_s)
    return (1 - outside) * factor - outside * log(1 + mean_s * predicted / target.batch)


def nearness(a: Case, b: Case) -> float:
    """How much a measurement of one says of the other: 1 for the same cell, towards 0 far away."""
    return exp(-_REACH * distance(a, b))


def distance(a: Case, b: Case) -> float:
    """How unlike two questions are: 0 for the same cell, about 2 for another size by a factor of e."""
    return (
        abs(log(a.active_bytes / b.active_bytes))
        + abs(log(a.active_parameters / b.active_parameters))
        + 0.5 * abs(log(a.batch / b.batch))
        + abs(a.host_share - b.host_share)
        + 0.3 * (a.dequant_class != b.dequant_class)
        + 0.1 * abs(log((256 + a.depth) / (256 + b.depth)))
    )
