"""What one measurement on this machine says about the prediction's error here: a shrunk log offset.

Pure. Kept per device, driver and runtime version: another one forgets it.
"""

from __future__ import annotations

from math import exp, log

import msgspec

from core.metamodel.features import Case

SHRINK = 0.3
SAME_CELL_SHRINK = 0.01
ALIEN_SHRINK = 0.02


class Observation(msgspec.Struct, frozen=True):
    """One own measurement: the question asked, the speed seen, and what the model had said (tokens per second)."""

    case: Case
    measured: float
    predicted: float


def offset(target: Case, seen: tuple[Observation, ...], *, outside: float = 0.0) -> float:
    """The log offset to add to a prediction: the nearness-weighted mean of the residuals, shrunk by k / (k + s).

    s is 0.3 for another model inside the training range (metamodel.md), nearly 0 for the very cell that was measured,
    and small where the model extrapolates (outside = 1): there the measurement is all that we know.
    """
    if not seen:
        return 0.0
    near = [exp(-distance(target, o.case)) for o in seen]
    total = sum(near)
    mean = sum(w * log(o.measured / o.predicted) for w, o in zip(near, seen, strict=True)) / max(total, 1e-9)
    far = 1 - max(near)
    shrink = SAME_CELL_SHRINK + far * ((1 - outside) * SHRINK + outside * ALIEN_SHRINK)
    return mean * len(seen) / (len(seen) + shrink)


def distance(a: Case, b: Case) -> float:
    """How unlike two questions are: 0 for the same cell, about 1 for another size or batch by a factor of e."""
    return (
        abs(log(a.active_bytes / b.active_bytes))
        + abs(log(a.active_parameters / b.active_parameters))
        + 0.5 * abs(log(a.batch / b.batch))
        + abs(a.host_share - b.host_share)
        + 0.3 * (a.dequant_class != b.dequant_class)
        + 0.1 * abs(log((256 + a.depth) / (256 + b.depth)))
    )
