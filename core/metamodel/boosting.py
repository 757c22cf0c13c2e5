"""Fits the prior's parts to figures: the roofline's constants, and two small boosters a phase.

Deterministic, on one thread. Runs in training and evaluation only, never in the engine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import product
from math import log, sqrt

import lightgbm
import msgspec
import numpy as np

from core.metamodel.figures import Figure, log_speed
from core.metamodel.inputs import PHYSICAL, quantities
from core.metamodel.predictor import Phase, Prior, Side, Vector, ratios, roofline
from core.metamodel.roofline import Constants, constants_for

ROUNDS = 120
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
    "bandwidth_share": (0.6, 0.7, 0.78, 0.84, 0.9),
    "layer_s": (5e-6, 15e-6, 30e-6, 60e-6, 100e-6, 150e-6, 200e-6, 300e-6),
}
_MATRIX_GRID = (0.05, 0.08, 0.12, 0.18, 0.25, 0.35, 0.45, 0.6, 0.8)


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
    rows = [f for f in figures if f.phase is phase]
    physical = np.array([quantities(f.case) for f in rows])
    target = np.array([log_speed(f) for f in rows])
    bound = np.array([log(roofline(phase, f.case, constants=constants)) for f in rows])
    trust = np.array(weights(rows))
    return Side(
        residual=_boost(np.array([ratios(phase, f.case) for f in rows]), target - bound, trust=trust),
        raw=_boost(physical, target, trust=trust),
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


def _fit_backend(rows: list[Figure], backend: str) -> Constants:
    best = constants_for(backend, {})
    alone = [f for f in rows if f.phase is Phase.DECODE and f.case.batch == 1]
    batched = [f for f in rows if f.phase is Phase.DECODE and f.case.batch > 1]
    prefill = [f for f in rows if f.phase is Phase.PREFILL]
    if len(alone) >= _MIN_ROWS:
        tries = [
            msgspec.structs.replace(best, bandwidth_share=e, layer_s=tau)
            for e, tau in product(_GRID["bandwidth_share"], _GRID["layer_s"])
        ]
        best = min(tries, key=lambda c: _loss(alone, c))
    if len(batched) >= _MIN_ROWS:
        tries = [msgspec.structs.replace(best, batch_matrix_share=share) for share in _MATRIX_GRID]
        best = min(tries, key=lambda c: _loss(batched, c))
    if len(prefill) >= _MIN_ROWS:
        tries = [msgspec.structs.replace(best, matrix_share=share) for share in _MATRIX_GRID]
        best = min(tries, key=lambda c: _loss(prefill, c))
    return best


def _loss(rows: list[Figure], constants: Constants) -> float:
    """Weighted mean absolute log error, capped so that a wrong row cannot pull the constants."""
    total, trust = 0.0, weights(rows)
    for f, w in zip(rows, trust, strict=True):
        total += w * min(1.0, abs(log_speed(f) - log(roofline(f.phase, f.case, constants={f.case.backend: constants}))))
    return total / sum(trust)


def _boost(inputs: Vector, target: Vector, *, trust: Vector) -> str:
    rows = lightgbm.Dataset(inputs, target, weight=trust / trust.mean())
    return str(lightgbm.train(dict(_LIGHTGBM), rows, num_boost_round=ROUNDS).model_to_string())
