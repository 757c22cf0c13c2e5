"""What the meta-model and its rivals say of published figures, honestly: by a prior that never saw the device.

Pure but for the fitting. Leaves out whole devices, or whole sources to see whether a source's habits were learned
instead of its machines'. Never scores: core.metamodel.scores does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.metamodel.boosting import fit
from core.metamodel.columns import Columns, Vector, columns
from core.metamodel.correction import Correction, Observation
from core.metamodel.figures import Figure, log_speed
from core.metamodel.predictor import Parts, Phase, Predictor, Prior

RIVAL, ROOFLINE, RESIDUAL, RAW, OURS = (
    "rival: 0.55 x bandwidth / size", "roofline alone", "residual booster alone", "raw booster alone", "ours",
)  # fmt: skip
RIVAL_SHARE = 0.55
OWN_FOLD_ROWS = 20
SMALL_FOLDS = 8
OWN_RUNS = 6
VERIFIED = 0.5
_SUBMISSION = re.compile(r"-([0-9a-f]{8})(?:-\d+)?\.json")
# What a plan decides, and two runs of one machine may therefore differ in, in the settings that sources write down.
_PLANNED = re.compile(
    r"\b(?:fa|b|ub|ctx|kv|ngl|pp|tg|np|prompt)(?:=(?:-b )?\w+| ?\d+)\b|\b(?:batched|llama)-bench\b", re.IGNORECASE
)
Places = NDArray[np.intp]


class Told(msgspec.Struct, frozen=True):
    """Figures of one phase, and what each predictor said of them, as log tokens per second, before any own run."""

    phase: Phase
    figures: tuple[Figure, ...]
    measured: Vector
    said: dict[str, Vector]
    outside: Vector

    def where(self, kept: Callable[[Figure], bool]) -> Told:
        """The figures for which kept is true."""
        rows = np.array([i for i, f in enumerate(self.figures) if kept(f)], dtype=np.intp)
        return Told(
            phase=self.phase,
            figures=tuple(self.figures[i] for i in rows),
            measured=self.measured[rows],
            said={name: values[rows] for name, values in self.said.items()},
            outside=self.outside[rows],
        )


class Reruns(msgspec.Struct, frozen=True):
    """Predictions after own runs: of row rows[i] by each predictor, and how much the runs tell of it (0 to 1)."""

    rows: Places
    said: dict[str, Vector]
    nearness: Vector


def left_out(figures: Sequence[Figure], folds: Sequence[set[str]], *, key: Callable[[Figure], str]) -> list[Told]:
    """Both phases, each figure by a prior fitted without its fold (key says what a figure belongs to)."""
    told: dict[Phase, list[Told]] = {phase: [] for phase in Phase}
    for fold in folds:
        prior = fit([f for f in figures if key(f) not in fold])
        for found in tell([f for f in figures if key(f) in fold], prior):
            told[found.phase].append(found)
    return [_joined(parts) for parts in told.values()]


def tell(figures: Sequence[Figure], prior: Prior) -> list[Told]:
    """What this prior says of these figures, the two phases apart."""
    predictor = Predictor(prior)
    return [_told(phase, tuple(f for f in figures if f.phase is phase), predictor=predictor) for phase in Phase]


def device(figure: Figure) -> str:
    """What is left out together to be honest about unseen GPUs."""
    return figure.device


def source(figure: Figure) -> str:
    """The repository that a figure comes from, whatever the file."""
    return "/".join(figure.source.split(" ")[0].split("/")[:2])


def device_folds(figures: Sequence[Figure]) -> list[set[str]]:
    """One fold for each device; those with few rows in groups."""
    rows = Counter(f.device for f in figures)
    small = sorted(d for d, n in rows.items() if n < OWN_FOLD_ROWS)
    groups = [set(small[i::SMALL_FOLDS]) for i in range(SMALL_FOLDS)]
    return [{d} for d, n in sorted(rows.items()) if n >= OWN_FOLD_ROWS] + [g for g in groups if g]


def source_folds(figures: Sequence[Figure]) -> list[set[str]]:
    """One fold for each source."""
    return [{name} for name in sorted({source(f) for f in figures})]


def peer(figure: Figure) -> tuple[str, ...] | None:
    """The machine whose run one own run is: a device with its backend, number of GPUs, runtime, software, who measured
    it and when. None for what nobody has checked: a public table of many people's machines is no peer."""
    if figure.weight < VERIFIED:
        return None
    by = _SUBMISSION.findall(figure.source)
    software = " ".join(_PLANNED.sub(" ", figure.settings).split())
    machine = (figure.device, figure.case.backend, str(figure.gpus))
    return *machine, figure.case.runtime, source(figure), *by, figure.date, software


def rerun(told: Told, runs: int, *, or_fewer: bool = False) -> Reruns:
    """Every row after `runs` other rows of its peer were measured (up to six draws, evenly spaced, in turn); or_fewer:
    of a peer with less rows, after all the others.

    A row that asks the very same question as one of the runs is left out: that would be no prediction.
    """
    asked = [(rows, min(runs, len(rows) - 1) if or_fewer else runs) for rows in _peers(told.figures)]
    parts = [_one_draw(told, rows, drawn=drawn) for rows, n in asked for drawn in _draws(rows, n)]
    return Reruns(
        rows=np.concatenate([np.zeros(0, dtype=np.intp), *(p.rows for p in parts)]),
        said={name: np.concatenate([np.zeros(0), *(p.said[name] for p in parts)]) for name in told.said},
        nearness=np.concatenate([np.zeros(0), *(p.nearness for p in parts)]),
    )


def rival(c: Columns) -> Vector:
    """The formula of a well-known rival, given the active bytes of sparse models, which helps it."""
    return np.asarray(np.log(RIVAL_SHARE * c.bandwidth_gbs * 1e9 / c.active_bytes))


def _peers(figures: Sequence[Figure]) -> list[list[int]]:
    """Places of the figures of each peer. Where a source's settings tell every row of a machine from every other, they
    tell of the run and not of the machine: such rows are one peer, whatever their settings."""
    owners = [peer(figure) for figure in figures]
    rows = Counter(owners)
    found: dict[tuple[str, ...], list[int]] = {}
    for i, owner in enumerate(owners):
        if owner is not None:
            found.setdefault(owner if rows[owner] > 1 else owner[:-1], []).append(i)
    return list(found.values())


def _draws(rows: list[int], runs: int) -> list[list[int]]:
    if not 0 < runs < len(rows):
        return []
    starts = range(0, len(rows), max(1, -(-len(rows) // OWN_RUNS)))
    apart = len(rows) // runs
    return [[rows[(start + k * apart) % len(rows)] for k in range(runs)] for start in starts]


def _one_draw(told: Told, rows: list[int], *, drawn: list[int]) -> Reruns:
    asked = {told.figures[i].case for i in drawn}
    targets = np.array([i for i in rows if told.figures[i].case not in asked], dtype=np.intp)
    cases = columns([told.figures[i].case for i in targets])
    seen = [Observation(told.figures[i].case, 1.0, 1.0) for i in drawn]
    said = {}
    for name, values in told.said.items():
        speeds = np.exp(values[drawn]).tolist()
        ran = [
            msgspec.structs.replace(o, measured=told.figures[i].tokens_per_s, predicted=speed)
            for o, i, speed in zip(seen, drawn, speeds, strict=True)
        ]
        said[name] = values[targets] + Correction(ran).offsets(cases, outside=told.outside[targets])
    return Reruns(targets, said, Correction(seen).nearness(cases))


def _told(phase: Phase, figures: tuple[Figure, ...], *, predictor: Predictor) -> Told:
    none = np.zeros(0)
    c = columns([f.case for f in figures])
    parts = predictor.parts(phase, c) if figures else Parts(none, none, none, none, none)
    said = {ROOFLINE: parts.roofline, RESIDUAL: parts.residual, RAW: parts.raw, OURS: parts.ours}
    if phase is Phase.DECODE:
        said = {RIVAL: rival(c)} | said
    return Told(phase, figures, np.array([log_speed(f) for f in figures]), said, parts.outside)


def _joined(parts: list[Told]) -> Told:
    return Told(
        phase=parts[0].phase,
        figures=tuple(f for part in parts for f in part.figures),
        measured=np.concatenate([part.measured for part in parts]),
        said={name: np.concatenate([part.said[name] for part in parts]) for name in parts[0].said},
        outside=np.concatenate([part.outside for part in parts]),
    )
