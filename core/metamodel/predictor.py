"""Speeds from cases: a roofline, corrected by two boosters (one on its residual, one raw), with 10 and 90 % bounds.

The only place besides training that touches LightGBM. Never sees a name, never decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from math import log
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
from numpy.typing import NDArray

from core.metamodel.datasheets import Datasheet
from core.metamodel.features import Case
from core.metamodel.inputs import PHYSICAL, decode_ratios, prefill_ratios, quantities
from core.metamodel.roofline import Constants, constants_for, decode_tokens_per_s, prefill_tokens_per_s

Vector = NDArray[np.float64]
_FADE = 0.7
NARROWING = 0.6


class Phase(StrEnum):
    """Reading the prompt, or writing the answer."""

    PREFILL = "prefill"
    DECODE = "decode"


class Spread(msgspec.Struct, frozen=True):
    """Log factors from the estimate to its 10 and 90 % bounds, device-wise conformal.

    Cold, and after an own run of something else; they narrow as the own run comes nearer to the cell itself.
    """

    low: float = -0.56
    high: float = 0.56
    own_low: float = -0.30
    own_high: float = 0.30


class Side(msgspec.Struct, frozen=True):
    """What was learned for one phase: LightGBM text models (or none), how far each is believed, the range, the spread.

    log speed = roofline + residual_share x residual + raw_share x (raw - roofline); lowest and highest bound the
    physical quantities seen in training.
    """

    residual: str = ""
    raw: str = ""
    residual_share: float = 0.75
    raw_share: float = 0.1
    lowest: tuple[float, ...] = ()
    highest: tuple[float, ...] = ()
    spread: Spread = Spread()


class Prior(msgspec.Struct, frozen=True):
    """The trained asset: roofline constants by backend, the two sides, and datasheet rates by device name."""

    version: int = 1
    constants: dict[str, Constants] = {}
    decode: Side = Side()
    prefill: Side = Side()
    datasheets: dict[str, Datasheet] = {}


class Prediction(msgspec.Struct, frozen=True):
    """tokens_per_s over the batch; outside is 0 within the training range and 1 far beyond it."""

    tokens_per_s: float
    outside: float


class Predictor:
    """Owns the loaded boosters."""

    def __init__(self, prior: Prior) -> None:
        self.prior = prior
        self._boosters: dict[Phase, tuple[Any, Any] | None] = {
            Phase.DECODE: _boosters(prior.decode),
            Phase.PREFILL: _boosters(prior.prefill),
        }

    def predict(self, phase: Phase, cases: Sequence[Case]) -> list[Prediction]:
        """One prediction per case, all in one pass."""
        if not cases:
            return []
        bound = np.array([log(roofline(phase, c, constants=self.prior.constants)) for c in cases])
        loaded = self._boosters[phase]
        if loaded is None:
            return [Prediction(float(np.exp(b)), 1.0) for b in bound]
        side = self.side(phase)
        physical = np.array([quantities(c) for c in cases])
        outside = _outside(physical[:, :PHYSICAL], side)
        residual = loaded[0].predict(np.array([ratios(phase, c) for c in cases]), num_threads=1)
        inside = side.residual_share * residual + side.raw_share * (loaded[1].predict(physical, num_threads=1) - bound)
        learned = bound + (1 - outside) * inside
        return [Prediction(float(np.exp(v)), float(o)) for v, o in zip(learned, outside, strict=True)]

    def side(self, phase: Phase) -> Side:
        """What was learned for this phase."""
        return self.prior.decode if phase is Phase.DECODE else self.prior.prefill


def open_prior(path: Path) -> Prior:
    """Read the asset. Raises OSError or msgspec.MsgspecError."""
    return msgspec.json.decode(path.read_bytes(), type=Prior)


def roofline(phase: Phase, case: Case, *, constants: dict[str, Constants]) -> float:
    """Tokens per second by the formula alone."""
    own = constants_for(case.backend, constants)
    return decode_tokens_per_s(case, own) if phase is Phase.DECODE else prefill_tokens_per_s(case, own)


def bounds(spread: Spread, near: float | None) -> tuple[float, float]:
    """Log factors to the 10 and 90 % bounds: cold (None), or by how near the nearest own measurement is (0 to 1)."""
    if near is None:
        return spread.low, spread.high
    return spread.own_low * narrowing(near), spread.own_high * narrowing(near)


def narrowing(near: float) -> float:
    """What is left of the uncertainty after an own run this near: all of it at 0, two fifths at 1 (noise remains)."""
    return 1 - NARROWING * near


def ratios(phase: Phase, case: Case) -> list[float]:
    """The residual booster's inputs for this phase."""
    return decode_ratios(case) if phase is Phase.DECODE else prefill_ratios(case)


def _boosters(side: Side) -> tuple[Any, Any] | None:
    if not side.residual or not side.raw:
        return None
    return lightgbm.Booster(model_str=side.residual), lightgbm.Booster(model_str=side.raw)


def _outside(inputs: Vector, side: Side) -> Vector:
    """How far beyond the training range: the worst quantity's overshoot in log units, saturating at 1."""
    lowest, highest = np.array(side.lowest), np.array(side.highest)
    beyond = np.maximum(np.maximum(lowest - inputs, inputs - highest), 0.0)
    return np.asarray(np.clip(beyond.max(axis=1) / _FADE, 0.0, 1.0))
