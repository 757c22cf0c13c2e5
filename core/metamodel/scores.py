"""Errors of every predictor side by side, and the figures that the meta-model promises, from what was told.

Pure. Shares and errors are fractions of one. Never leaves a row out that a predictor would like to be without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np

from core.metamodel.calibration import Cover
from core.metamodel.columns import Vector
from core.metamodel.evaluation import OURS, RIVAL, Places, Told, rerun
from core.metamodel.figures import Figure, Load
from core.metamodel.fit import FREE_SHARE, GPU_OVERHEAD_BYTES
from core.metamodel.predictor import Phase

RUNS = (0, 1, 3)
BENCHMARK_RUNS = 3


class Score(msgspec.Struct, frozen=True):
    """Median relative errors: over rows, and over the medians of devices. rows counts the predictions."""

    rows: int
    devices: int
    over_rows: float
    over_devices: float


class Line(msgspec.Struct, frozen=True):
    """One predictor on one selection of rows, by the number of own runs before."""

    selection: str
    predictor: str
    scores: dict[int, Score]


def lines(told: Sequence[Told]) -> list[Line]:
    """Every predictor on every selection that has rows."""
    chosen = ((part.where(kept), title) for part in told for title, kept in _selections(part.phase))
    return [line for rows, title in chosen for line in _lines(rows, title)]


def figures(told: Sequence[Told], loads: Sequence[Load], *, covers: dict[Phase, Cover]) -> dict[str, float | None]:
    """The promised figures; None where there is nothing to measure it on.

    decode: llama.cpp, one sequence, all rows; against the rival's formula on the same rows. prefill: llama.cpp, the
    median device's median error after its own benchmark, which reads prompts in three quantizations (three own runs; of
    a device with fewer figures, all but the one asked for; cold where no machine has a second figure).
    """
    decode = {n: score(_ours_alone(told, Phase.DECODE), OURS, runs=n) for n in RUNS}
    rival = {n: _rival_on_the_same(_ours_alone(told, Phase.DECODE), runs=n) for n in RUNS}
    reading = _ours_alone(told, Phase.PREFILL)
    prefill = score(reading, OURS, runs=BENCHMARK_RUNS, or_fewer=True) or score(reading, OURS, runs=0)
    right = [says_fits(load) is not load.out_of_memory for load in loads]
    cold, own = decode[0], decode[1]
    return {
        "decode_median_error_cold": cold.over_rows if cold else None,
        "decode_median_error_1": own.over_rows if own else None,
        "decode_vs_rival_cold": cold.over_rows / rival[0] if cold and rival[0] else None,
        "decode_vs_rival_1": own.over_rows / rival[1] if own and rival[1] else None,
        "prefill_device_median_error": prefill.over_devices if prefill else None,
        "fit_accuracy": sum(right) / len(right) if right else None,
        "interval80_coverage": _mean_inside(covers),
        "promise_broken_share": covers[Phase.DECODE].broken if covers[Phase.DECODE].rows else None,
    }


def says_fits(load: Load) -> bool:
    """The arithmetic of core.metamodel.fit on a published load."""
    needed = load.file_bytes + load.kv_bytes + GPU_OVERHEAD_BYTES * load.gpus
    return needed <= FREE_SHARE * load.memory_bytes * load.gpus


def score(told: Told, name: str, *, runs: int, or_fewer: bool = False) -> Score | None:
    """How wrong one predictor is after so many own runs; None without rows."""
    rows, said = _after(told, name, runs=runs, or_fewer=or_fewer)
    if not len(rows):
        return None
    errors = np.abs(np.exp(said - told.measured[rows]) - 1)
    devices = np.array([told.figures[i].device for i in rows])
    each = [float(np.median(errors[devices == d])) for d in sorted(set(devices.tolist()))]
    return Score(len(rows), len(each), round(float(np.median(errors)), 4), round(float(np.median(each)), 4))


def _after(told: Told, name: str, *, runs: int, or_fewer: bool = False) -> tuple[Places, Vector]:
    """(row numbers, log speeds) by this predictor after so many own runs."""
    if not runs:
        return np.arange(len(told.figures), dtype=np.intp), told.said[name]
    found = rerun(told, runs, or_fewer=or_fewer)
    return found.rows, found.said[name]


def _rival_on_the_same(told: Told, *, runs: int) -> float:
    """The rival's median error, without own runs, on the rows that ours is measured on."""
    if not told.figures:
        return 0.0
    rows, _ = _after(told, RIVAL, runs=runs)
    return float(np.median(np.abs(np.exp(told.said[RIVAL][rows] - told.measured[rows]) - 1))) if len(rows) else 0.0


def _lines(told: Told, title: str) -> Iterator[Line]:
    for name in told.said if told.figures else ():
        scores = {n: score(told, name, runs=n) for n in RUNS}
        yield Line(title, name, {n: found for n, found in scores.items() if found is not None})


def _ours_alone(told: Sequence[Told], phase: Phase) -> Told:
    part = next(t for t in told if t.phase is phase)
    return part.where(_is_single if phase is Phase.DECODE else _is_ours)


def _mean_inside(covers: dict[Phase, Cover]) -> float | None:
    """Both phases' rows together, every device counting the same within its phase."""
    found = [c for c in covers.values() if c.rows]
    return sum(c.inside_by_device * c.rows for c in found) / sum(c.rows for c in found) if found else None


def _selections(phase: Phase) -> list[tuple[str, Callable[[Figure], bool]]]:
    match phase:
        case Phase.DECODE:
            return [
                ("decode, llama.cpp, one sequence", _is_single),
                ("decode, same, benches only", lambda f: _is_single(f) and f.weight == 1),
                ("decode, llama.cpp, batched", lambda f: _is_ours(f) and f.case.batch > 1),
                ("decode, every runtime", lambda f: True),
            ]
        case Phase.PREFILL:
            return [
                ("prefill, llama.cpp", _is_ours),
                ("prefill, same, benches only", lambda f: _is_ours(f) and f.weight == 1),
            ]


def _is_ours(figure: Figure) -> bool:
    return figure.case.runtime == "llama.cpp"


def _is_single(figure: Figure) -> bool:
    return _is_ours(figure) and figure.case.batch == 1
