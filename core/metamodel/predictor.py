"""Speeds from cases: a roofline, corrected by two boosters (one on its residual, one raw), with 10 and 90 % bounds.

The only place besides training that touches LightGBM, and only at the first prediction; without it the roofline
predicts alone. Never sees a name, never decides.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from core.metamodel.columns import Columns, Vector, columns
from core.metamodel.correction import Correction, Observation
from core.metamodel.datasheets import Datasheet
from core.metamodel.features import Case
from core.metamodel.inputs import PHYSICAL, Table, decode_ratios, prefill_ratios, quantities
from core.metamodel.roofline import Constants, constant_columns, decode_speeds, prefill_speeds, slopes

Near = TypeVar("Near", float, Vector)
_FADE = 0.7
NARROWING = 0.6
WITHOUT_LIGHTGBM = (
    "LightGBM cannot be loaded, so speeds are predicted by a formula alone and promises are more careful until this"
    " machine has measured itself. Install Starling again to have it back."
)

log = logging.getLogger(__name__)


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
    physical quantities seen in training. plain_spread is of the roofline alone.
    """

    residual: str = ""
    raw: str = ""
    residual_share: float = 0.75
    raw_share: float = 0.1
    lowest: tuple[float, ...] = ()
    highest: tuple[float, ...] = ()
    spread: Spread = Spread()
    plain_spread: Spread = Spread(-0.9, 0.9, -0.5, 0.5)


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


class Bounded(msgspec.Struct, frozen=True):
    """A speed corrected by own runs, in tokens per second, and the log factors to its 10 and 90 % bounds."""

    tokens_per_s: float
    low: float
    high: float


class Parts(msgspec.Struct, frozen=True):
    """Log speeds by each part of the model, and how far outside the training range each case is (0 to 1)."""

    roofline: Vector
    residual: Vector
    raw: Vector
    ours: Vector
    outside: Vector


class Predictor:
    """Owns the prior, and the boosters from the first prediction on."""

    def __init__(self, prior: Prior) -> None:
        self.prior = prior
        self._loaded: dict[Phase, tuple[Any, Any] | None] | None = None

    @property
    def notice(self) -> str:
        """What the owner should know of how this predicts; empty when all is well. Loads the boosters."""
        return WITHOUT_LIGHTGBM if self._trained and not any(self._boosters().values()) else ""

    def predict(self, phase: Phase, cases: Sequence[Case]) -> list[Prediction]:
        """One prediction per case, all in one pass."""
        if not cases:
            return []
        parts = self.parts(phase, columns(cases))
        speeds = np.exp(parts.ours)
        return [Prediction(v, o) for v, o in zip(speeds.tolist(), parts.outside.tolist(), strict=True)]

    def corrected(self, phase: Phase, cases: Sequence[Case], *, seen: Sequence[Observation]) -> list[Bounded]:
        """One speed per case after these own runs, with its bounds; without runs as predicted cold."""
        if not cases:
            return []
        c = columns(cases)
        parts, spread = self.parts(phase, c), self.side(phase).spread
        if not seen:
            return [Bounded(v, spread.low, spread.high) for v in np.exp(parts.ours).tolist()]
        correction = Correction(seen)
        if phase is Phase.DECODE:
            change = correction.step_offsets(c, predicted=np.exp(parts.ours), outside=parts.outside)
        else:
            change = correction.offsets(c, outside=parts.outside)
        left = narrowing(correction.nearness(c))
        table = np.column_stack([np.exp(parts.ours + change), spread.own_low * left, spread.own_high * left])
        return [Bounded(*row) for row in table.tolist()]

    def parts(self, phase: Phase, c: Columns) -> Parts:
        """What each part of the model says of these cases; without boosters each says what the roofline does."""
        bound = np.log(roofline_speeds(phase, c, constants=self.prior.constants))
        loaded = self._boosters()[phase]
        if loaded is None:
            return Parts(bound, bound, bound, bound, np.ones_like(bound))
        side = self.side(phase)
        physical = quantities(c)
        outside = _outside(physical[:, :PHYSICAL], side)
        residual = loaded[0].predict(ratios(phase, c), num_threads=1)
        raw = loaded[1].predict(physical, num_threads=1)
        inside = side.residual_share * residual + side.raw_share * (raw - bound)
        return Parts(bound, bound + residual, raw, bound + (1 - outside) * inside, outside)

    def slopes(self, cases: Sequence[Case]) -> list[float]:
        """alpha of step(b) = t0 (1 + alpha b) of each case, by the roofline."""
        c = columns(cases)
        found: list[float] = slopes(c, constant_columns(c.backend, self.prior.constants)).tolist()
        return found

    def side(self, phase: Phase) -> Side:
        """What was learned for this phase; its spread is the roofline's where that predicts alone."""
        side = self.prior.decode if phase is Phase.DECODE else self.prior.prefill
        if side.residual and self._boosters()[phase] is None:
            return msgspec.structs.replace(side, spread=side.plain_spread)
        return side

    @property
    def _trained(self) -> bool:
        return bool(self.prior.decode.residual or self.prior.prefill.residual)

    def _boosters(self) -> dict[Phase, tuple[Any, Any] | None]:
        if self._loaded is None:
            make = _booster() if self._trained else None
            self._loaded = {
                Phase.DECODE: _pair(self.prior.decode, make),
                Phase.PREFILL: _pair(self.prior.prefill, make),
            }
        return self._loaded


def open_prior(path: Path) -> Prior:
    """Read the asset. Raises OSError or msgspec.MsgspecError."""
    return msgspec.json.decode(path.read_bytes(), type=Prior)


def prior_fault(path: Path) -> str:
    """Why this file is no trained prior; empty when it is one."""
    try:
        prior = open_prior(path)
    except (OSError, msgspec.MsgspecError) as error:
        return f"{path.name} cannot be read ({type(error).__name__})"
    return "" if prior.decode != Side() and prior.prefill != Side() else f"{path.name} was not trained"


def roofline_speeds(phase: Phase, c: Columns, *, constants: dict[str, Constants]) -> Vector:
    """Tokens per second by the formula alone."""
    own = constant_columns(c.backend, constants)
    return decode_speeds(c, own) if phase is Phase.DECODE else prefill_speeds(c, own)


def bounds(spread: Spread, near: float | None) -> tuple[float, float]:
    """Log factors to the 10 and 90 % bounds: cold (None), or by how much own runs tell of the cell (0 to 1)."""
    if near is None:
        return spread.low, spread.high
    return spread.own_low * narrowing(near), spread.own_high * narrowing(near)


def narrowing(near: Near) -> Near:
    """What is left of the uncertainty after own runs: all of it at 0, two fifths at 1 (noise remains)."""
    return 1 - NARROWING * near


def ratios(phase: Phase, c: Columns) -> Table:
    """The residual booster's inputs for this phase."""
    return decode_ratios(c) if phase is Phase.DECODE else prefill_ratios(c)


def _booster() -> Any:
    """LightGBM's class, or None (and one line in the log) where the library is missing or cannot be loaded."""
    try:
        import lightgbm
    except (ImportError, OSError):
        log.warning(WITHOUT_LIGHTGBM)
        return None
    return lightgbm.Booster


def _pair(side: Side, make: Any) -> tuple[Any, Any] | None:
    if make is None or not side.residual or not side.raw:
        return None
    return make(model_str=side.residual), make(model_str=side.raw)


def _outside(inputs: Table, side: Side) -> Vector:
    """How far beyond the training range: the worst quantity's overshoot in log units, saturating at 1."""
    lowest, highest = np.array(side.lowest), np.array(side.highest)
    beyond = np.maximum(np.maximum(lowest - inputs, inputs - highest), 0.0)
    return np.asarray(np.clip(beyond.max(axis=1) / _FADE, 0.0, 1.0))
