"""How wrong the meta-model is, honestly: every device is predicted by a model that never saw it.

Pure but for the fitting. Compares with the roofline alone and with the rival formula 0.55 x bandwidth / size; with no
own measurement and with one. A peer is a device with its backend, its number of GPUs and its build.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from math import exp, log
from statistics import median

import msgspec

from core.metamodel.boosting import fit
from core.metamodel.correction import Observation, nearness, offset
from core.metamodel.figures import Figure, Load
from core.metamodel.fit import FREE_SHARE, GPU_OVERHEAD_BYTES
from core.metamodel.predictor import Phase, Prediction, Predictor, Prior, Spread, bounds, narrowing, roofline

RIVAL_SHARE = 0.55
OWN_FOLD_ROWS = 20
SMALL_FOLDS = 8
OWN_RUNS = 6
UNVERIFIED = 0.5


class Guess(msgspec.Struct, frozen=True):
    """One figure, and what was said of it by a model that had not seen its device (tokens per second)."""

    figure: Figure
    said: Prediction
    formula: float


class Rerun(msgspec.Struct, frozen=True):
    """What is said of a figure once another of its peer is known, and how alike the two are (1: the same cell)."""

    guess: Guess
    said: float
    nearness: float


class Score(msgspec.Struct, frozen=True):
    """Median relative errors in percent: over rows, and over devices; rows counts the predictions."""

    rows: int
    devices: int
    over_rows: float
    over_devices: float


class Report(msgspec.Struct, frozen=True):
    """Scores by title; fit_right of fit_loads were told rightly; spreads are the conformal log factors by phase.

    coverage: the share of rows after one own run within their bounds, by phase (80 % is the aim).
    """

    scores: dict[str, Score]
    fit_right: int
    fit_loads: int
    spreads: dict[str, Spread]
    coverage: dict[str, float]


def left_out(figures: Sequence[Figure]) -> list[Guess]:
    """Each figure by a prior fitted without its device; devices with few rows are left out in groups."""
    guesses = []
    for fold in _folds(figures):
        prior = fit([f for f in figures if f.device not in fold])
        guesses += guess([f for f in figures if f.device in fold], prior)
    return guesses


def guess(figures: Sequence[Figure], prior: Prior) -> list[Guess]:
    """What this prior says of these figures."""
    predictor = Predictor(prior)
    guesses = []
    for phase in Phase:
        rows = [f for f in figures if f.phase is phase]
        said = predictor.predict(phase, [f.case for f in rows])
        formula = [roofline(phase, f.case, constants=prior.constants) for f in rows]
        guesses += [Guess(*row) for row in zip(rows, said, formula, strict=True)]
    return guesses


def report(guesses: Sequence[Guess], loads: Sequence[Load]) -> Report:
    """The table: decode and prefill, by us, by the formula, by the rival; cold and after one own measurement."""
    scores: dict[str, Score] = {}
    for title, kept in _selections().items():
        rows = [g for g in guesses if kept(g)]
        if rows:
            scores |= {f"{title}: {name}": score for name, score in _scores(rows).items()}
    right = sum(says_fits(load) is not load.out_of_memory for load in loads)
    spreads = {phase: spread(guesses, phase) for phase in Phase}
    return Report(
        scores=scores,
        fit_right=right,
        fit_loads=len(loads),
        spreads={phase.value: found for phase, found in spreads.items()},
        coverage={phase.value: _coverage(_verified(guesses, phase), found) for phase, found in spreads.items()},
    )


def spread(guesses: Sequence[Guess], phase: Phase) -> Spread:
    """Device-wise conformal bounds: 10 and 90 % of log(measured / said), every device counting the same.

    Rows that nobody has checked are left out: their faults are not the machine's.
    """
    rows = _verified(guesses, phase)
    cold = [(g.figure.device, log(g.figure.tokens_per_s / g.said.tokens_per_s)) for g in rows]
    runs = list(after_one_run(rows))
    own = [(r.guess.figure.device, log(r.guess.figure.tokens_per_s / r.said) / narrowing(r.nearness)) for r in runs]
    low, high = _bounds(cold)
    own_low, own_high = _bounds(own or cold)
    return Spread(low=low, high=high, own_low=own_low, own_high=own_high)


def after_one_run(rows: Sequence[Guess]) -> Iterable[Rerun]:
    """Every row with what we say of it after one other row of its peer was measured (six, evenly drawn, in turn)."""
    peers: defaultdict[tuple[str, str, int, str, str], list[Guess]] = defaultdict(list)
    for row in rows:
        peers[_peer(row.figure)].append(row)
    for found in peers.values():
        for measured in found[:: max(1, -(-len(found) // OWN_RUNS))]:
            yield from (_rerun(row, measured) for row in found if row is not measured)


def says_fits(load: Load) -> bool:
    """The arithmetic of core.metamodel.fit on a published load."""
    needed = load.file_bytes + load.kv_bytes + GPU_OVERHEAD_BYTES * load.gpus
    return needed <= FREE_SHARE * load.memory_bytes * load.gpus


def _rerun(row: Guess, measured: Guess) -> Rerun:
    seen = (Observation(measured.figure.case, measured.figure.tokens_per_s, measured.said.tokens_per_s),)
    change = offset(row.figure.case, seen, outside=row.said.outside)
    near = nearness(row.figure.case, measured.figure.case)
    return Rerun(row, row.said.tokens_per_s * exp(change), near)


def _scores(rows: Sequence[Guess]) -> dict[str, Score]:
    scores = {
        "ours, cold": _score((g, g.said.tokens_per_s) for g in rows),
        "roofline alone": _score((g, g.formula) for g in rows),
    }
    if rows[0].figure.phase is Phase.DECODE:
        scores["rival"] = _score((g, _rival(g)) for g in rows)
    own = list(after_one_run(rows))
    if own:
        scores["ours, one own run"] = _score((r.guess, r.said) for r in own)
    return scores


def _selections() -> dict[str, Callable[[Guess], bool]]:
    def decode(g: Guess) -> bool:
        return g.figure.phase is Phase.DECODE

    return {
        "decode, llama.cpp, one stream": lambda g: decode(g) and _is_ours(g) and g.figure.case.batch == 1,
        "decode, same, benches only": lambda g: (
            decode(g) and _is_ours(g) and g.figure.case.batch == 1 and g.figure.weight == 1
        ),
        "decode, llama.cpp, batched": lambda g: decode(g) and _is_ours(g) and g.figure.case.batch > 1,
        "decode, every runtime": decode,
        "prefill, llama.cpp": lambda g: not decode(g) and _is_ours(g),
        "prefill, same, benches only": lambda g: not decode(g) and _is_ours(g) and g.figure.weight == 1,
    }


def _score(said: Iterable[tuple[Guess, float]]) -> Score:
    errors: defaultdict[str, list[float]] = defaultdict(list)
    for g, speed in said:
        errors[g.figure.device].append(100 * abs(speed / g.figure.tokens_per_s - 1))
    everything = [e for found in errors.values() for e in found]
    return Score(
        rows=len(everything),
        devices=len(errors),
        over_rows=round(median(everything), 2),
        over_devices=round(median(median(found) for found in errors.values()), 2),
    )


def _rival(g: Guess) -> float:
    """The formula of a well-known rival, given the active bytes of sparse models, which helps it."""
    return RIVAL_SHARE * g.figure.case.bandwidth_gbs * 1e9 / g.figure.case.active_bytes


def _verified(guesses: Sequence[Guess], phase: Phase) -> list[Guess]:
    return [g for g in guesses if g.figure.phase is phase and _is_ours(g) and g.figure.weight > UNVERIFIED]


def _coverage(rows: Sequence[Guess], spread_: Spread) -> float:
    """The share of rows within their bounds after one own run, every device counting the same."""
    inside: defaultdict[str, list[bool]] = defaultdict(list)
    for r in after_one_run(rows):
        low, high = bounds(spread_, r.nearness)
        inside[r.guess.figure.device].append(low <= log(r.guess.figure.tokens_per_s / r.said) <= high)
    shares = [sum(found) / len(found) for found in inside.values()]
    return round(sum(shares) / max(1, len(shares)), 4)


def _bounds(residuals: Sequence[tuple[str, float]]) -> tuple[float, float]:
    rows = Counter(device for device, _ in residuals)
    ordered = sorted((value, 1 / rows[device]) for device, value in residuals)
    return _quantile(ordered, 0.1), _quantile(ordered, 0.9)


def _quantile(ordered: Sequence[tuple[float, float]], share: float) -> float:
    target, passed = share * sum(w for _, w in ordered), 0.0
    for value, weight in ordered:
        passed += weight
        if passed >= target:
            return round(value, 4)
    return round(ordered[-1][0], 4) if ordered else 0.0


def _folds(figures: Sequence[Figure]) -> list[set[str]]:
    rows = Counter(f.device for f in figures)
    small = sorted(d for d, n in rows.items() if n < OWN_FOLD_ROWS)
    groups = [set(small[i::SMALL_FOLDS]) for i in range(SMALL_FOLDS)]
    return [{d} for d, n in sorted(rows.items()) if n >= OWN_FOLD_ROWS] + [g for g in groups if g]


def _peer(figure: Figure) -> tuple[str, str, int, str, str]:
    build = figure.settings.split(" b=")[0] if figure.settings.startswith("build=") else ""
    return figure.device, figure.case.backend, figure.gpus, figure.case.runtime, build


def _is_ours(g: Guess) -> bool:
    return g.figure.case.runtime == "llama.cpp"
