"""Fits the prior's parts to figures: the roofline's constants, and two small boosters a phase.

Deterministic, on one thread. Runs in training and evaluation only, never in the engine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import product
from math import sqrt

import msgspec
import numpy as np

from core.metamodel.columns import Columns, Vector, columns
from core.metamodel.figures import Figure, log_speed
from core.metamodel.inputs import PHYSICAL, Table, quantities
from core.metamodel.predictor import Phase, Prior, Side, ratios, roofline_speeds
from core.metamodel.roofline import Constants, constants_for

ROUNDS = 120
# How far the booster on the residual and the raw one are believed: on devices that were left out, decoding keeps closer
# to the formula than reading prompts does (by device 16.5 % wrong cold, and nearly as much by source).
SHARES = {Phase.DECODE: (0.6, 0.05), Phase.PREFILL: (0.6, 0.3)}
_LIGHTGBM = {
    "objective": "huber",
    "alpha": 0.3,
    "learning_rate": 0.06,
    "num_leaves": 7,
    "min_data_in_leaf": 20,
    "feature_fraction": 0.7,
    "lambda_l2": 1.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 7,
    "verbosity": -1,
}
_MIN_ROWS = 30
_GRID = {
    "bandwidth_share": (0.5, 0.54, 0.58, 0.62, 0.66, 0.7, 0.74, 0.78, 0.82, 0.86, 0.9, 0.94, 0.98),
    "layer_s": (2e-6, 5e-6, 10e-6, 20e-6, 30e-6, 45e-6, 60e-6, 80e-6, 100e-6, 125e-6, 150e-6, 200e-6, 300e-6),
}
_MATRIX_GRID = (0.05, 0.08, 0.12, 0.18, 0.25, 0.35, 0.45, 0.6, 0.8)
_ATTENTION_GRID = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6)


class _Rows(msgspec.Struct, frozen=True):
    """Rows of one kind with what they are measured by: log speeds and trust."""

    cases: Columns
    target: Vector
    trust: Vector


def fit(figures: Sequence[Figure]) -> Prior:
    """The whole prior but for its spreads and datasheet rates. figures must hold rows of both phases."""
    constants = fit_constants(figures)
    return Prior(
        constants=constants,
        decode=fit_side(figures, Phase.DECODE, constants=constants),
        prefill=fit_side(figures, Phase.PREFILL, constants=constants),
    )


def weights(figures: Sequence[Figure]) -> list[float]:
    """Trust in the source, divided by the root of the device's rows: no device may outvote all others."""
    rows = Counter(f.device for f in figures)
    return [f.weight / sqrt(rows[f.device]) for f in figures]


def fit_side(figures: Sequence[Figure], phase: Phase, *, constants: dict[str, Constants]) -> Side:
    """Two boosters for one phase: on the roofline's residual, and raw."""
    rows = _rows([f for f in figures if f.phase is phase])
    physical = quantities(rows.cases)
    bound = np.log(roofline_speeds(phase, rows.cases, constants=constants))
    return Side(
        residual_share=SHARES[phase][0],
        raw_share=SHARES[phase][1],
        residual=_boost(ratios(phase, rows.cases), rows.target - bound, trust=rows.trust),
        raw=_boost(physical, rows.target, trust=rows.trust),
        lowest=tuple(float(v) for v in physical[:, :PHYSICAL].min(axis=0)),
        highest=tuple(float(v) for v in physical[:, :PHYSICAL].max(axis=0)),
    )


def fit_constants(figures: Sequence[Figure]) -> dict[str, Constants]:
    """Each backend's roofline by least absolute log error over a grid, on llama.cpp's rows alone."""
    rows: defaultdict[str, list[Figure]] = defaultdict(list)
    for f in figures:
        if f.case.runtime == "llama.cpp":
            rows[f.case.backend].append(f)
    return {backend: _fit_backend(found, backend) for backend, found in sorted(rows.items())}


def _fit_backend(found: list[Figure], backend: str) -> Constants:
    best = constants_for(backend, {})
    alone = [f for f in found if f.phase is Phase.DECODE and f.case.batch == 1]
    batched = [f for f in found if f.phase is Phase.DECODE and f.case.batch > 1]
    prefill = [f for f in found if f.phase is Phase.PREFILL]
    if len(alone) >= _MIN_ROWS:
        tries = [
            msgspec.structs.replace(best, bandwidth_share=e, layer_s=tau)
            for e, tau in product(_GRID["bandwidth_share"], _GRID["layer_s"])
        ]
        best = _best(Phase.DECODE, alone, tries=tries)
    if len(batched) >= _MIN_ROWS:
        tries = [msgspec.structs.replace(best, batch_matrix_share=share) for share in _MATRIX_GRID]
        best = _best(Phase.DECODE, batched, tries=tries)
    if len(prefill) >= _MIN_ROWS:
        tries = [
            msgspec.structs.replace(best, matrix_share=share, attention_share=attention)
            for share, attention in product(_MATRIX_GRID, _ATTENTION_GRID)
        ]
        best = _best(Phase.PREFILL, prefill, tries=tries)
    return best


def _best(phase: Phase, figures: list[Figure], *, tries: list[Constants]) -> Constants:
    """The constants of least weighted mean absolute log error, capped so that a wrong row cannot pull them."""
    rows = _rows(figures)
    backend = figures[0].case.backend

    def loss(constants: Constants) -> float:
        bound = np.log(roofline_speeds(phase, rows.cases, constants={backend: constants}))
        return float(np.average(np.minimum(1.0, np.abs(rows.target - bound)), weights=rows.trust))

    return min(tries, key=loss)


def _rows(figures: Sequence[Figure]) -> _Rows:
    return _Rows(
        columns([f.case for f in figures]), np.array([log_speed(f) for f in figures]), np.array(weights(figures))
    )


def _boost(inputs: Table, target: Vector, *, trust: Vector) -> str:
    import lightgbm

    rows = lightgbm.Dataset(inputs, target, weight=trust / trust.mean())
    return str(lightgbm.train(dict(_LIGHTGBM), rows, num_boost_round=ROUNDS).model_to_string())
