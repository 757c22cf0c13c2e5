"""Is a newly trained prior better than the one we have? Only if it wins on a frozen set that neither was trained on.

Never trains (core.metamodel.refit does). The frozen set is the published figures of every fifth device, by a checksum
of its name: it is the same on every machine, and no peer can add to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from zlib import crc32

import msgspec

from core.metamodel.figures import Figure
from core.metamodel.predictor import Phase, Predictor, Prior

FROZEN_ONE_IN = 5
NO_WORSE = 1.005
BETTER = 0.995


class Errors(msgspec.Struct, frozen=True):
    """Median relative errors over devices, of each device the median over its figures."""

    decode: float
    prefill: float


class Verdict(msgspec.Struct, frozen=True):
    """What a prior was beside another on the frozen set."""

    known: Errors
    offered: Errors

    @property
    def is_better(self) -> bool:
        """No worse in either phase, and better in one."""
        decode = self.offered.decode / max(self.known.decode, 1e-9)
        prefill = self.offered.prefill / max(self.known.prefill, 1e-9)
        return max(decode, prefill) <= NO_WORSE and min(decode, prefill) <= BETTER

    @property
    def is_no_worse(self) -> bool:
        """Not worse in either phase."""
        known, offered = self.known, self.offered
        return offered.decode <= NO_WORSE * known.decode and offered.prefill <= NO_WORSE * known.prefill


def is_frozen(device: str) -> bool:
    """Whether the figures of this device are kept from training, to judge by."""
    return crc32(device.encode()) % FROZEN_ONE_IN == 0


def judge(known: Prior, offered: Prior, *, frozen: Sequence[Figure]) -> Verdict:
    """Both priors on figures of both phases that neither has seen."""
    return Verdict(_errors(known, frozen), _errors(offered, frozen))


def _errors(prior: Prior, figures: Sequence[Figure]) -> Errors:
    predictor = Predictor(prior)
    return Errors(*(_error(predictor, phase, figures=figures) for phase in (Phase.DECODE, Phase.PREFILL)))


def _error(predictor: Predictor, phase: Phase, *, figures: Sequence[Figure]) -> float:
    rows = [figure for figure in figures if figure.phase is phase]
    by_device: defaultdict[str, list[float]] = defaultdict(list)
    for figure, said in zip(rows, predictor.predict(phase, [row.case for row in rows]), strict=True):
        by_device[figure.device].append(abs(said.tokens_per_s / figure.tokens_per_s - 1))
    return median(median(found) for found in by_device.values()) if by_device else 0.0
