"""Train a new prior on the published figures and on what peers agree on, and keep it only if that helps:
`python -m core.metamodel.refit --rows FILE --out FILE`. Ends with 0 when the new prior was written, 3 when it does not
win.

Runs in a child of its own, on one thread: training takes a while. Never writes over a prior that it did not beat.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from math import exp, log2
from pathlib import Path

import msgspec

from core.metamodel.acceptance import Verdict, is_frozen, judge
from core.metamodel.boosting import fit
from core.metamodel.features import Case
from core.metamodel.federation import (
    Heard,
    SharedRow,
    Vote,
    agreed,
    decode_case_of,
    is_possible,
    prefill_case_of,
    row_fault,
)
from core.metamodel.figures import Figure, read_figures, read_hardware
from core.metamodel.predictor import Phase, Predictor, Prior, open_prior
from core.metamodel.train import ASSETS

NOT_BETTER = 3
TRUST = 0.4
NICENESS = 10


def main(arguments: list[str]) -> int:
    """Refit, judge, and write the winner."""
    parser = argparse.ArgumentParser(prog="python -m core.metamodel.refit")
    parser.add_argument("--rows", type=Path, required=True, help="what was heard of peers, as JSON")
    parser.add_argument("--out", type=Path, required=True, help="where the new prior goes if it wins")
    parser.add_argument("--prior", type=Path, default=ASSETS / "prior.json", help="the prior that it must beat")
    options = parser.parse_args(arguments)
    figures = read_figures(ASSETS / "figures.csv", read_hardware(ASSETS / "hardware.csv"))
    heard = msgspec.json.decode(options.rows.read_bytes(), type=tuple[Heard, ...])
    found = refit(open_prior(options.prior), figures, heard=heard)
    if found is None:
        sys.stdout.write("The new prior does not win on the frozen set; the old one stays.\n")
        return NOT_BETTER
    options.out.write_bytes(msgspec.json.encode(found))
    sys.stdout.write(f"{options.out}: a better prior from {len(heard)} rows of peers\n")
    return 0


def refit(known: Prior, figures: Sequence[Figure], *, heard: Sequence[Heard]) -> Prior | None:
    """The known prior trained anew with peers' figures too; None unless they help on the frozen set, which neither of
    two trainings without it has seen, and the whole is no worse there than what we have."""
    frozen = [figure for figure in figures if is_frozen(figure.device)]
    others = [figure for figure in figures if not is_frozen(figure.device)]
    plain = fit(others)
    peers = peer_figures(heard, plain)
    if not peers or not judge(plain, fit([*others, *peers]), frozen=frozen).is_better:
        return None
    whole = fit([*figures, *peers])
    whole = msgspec.structs.replace(
        whole,
        decode=msgspec.structs.replace(whole.decode, spread=known.decode.spread),
        prefill=msgspec.structs.replace(whole.prefill, spread=known.prefill.spread),
        datasheets=known.datasheets,
    )
    verdict: Verdict = judge(known, whole, frozen=frozen)
    return whole if verdict.is_no_worse else None


def peer_figures(heard: Sequence[Heard], prior: Prior) -> list[Figure]:
    """What the peers of each kind of hardware agree on, as figures: one a cell, so that no peer can add many."""
    rows = [one for one in heard if row_fault(one.row) is None]
    kinds: defaultdict[str, list[Heard]] = defaultdict(list)
    for one in rows:
        kinds[_hardware(one.row)].append(one)
    predictor = Predictor(prior)
    found = []
    for hardware, alike in sorted(kinds.items()):
        for phase in Phase:
            found += _figures(hardware, alike, phase=phase, predictor=predictor)
    return found


def _figures(hardware: str, alike: Sequence[Heard], *, phase: Phase, predictor: Predictor) -> list[Figure]:
    asked = [(one, *_asked(one.row, phase)) for one in alike]
    asked = [(one, case, speed) for one, case, speed in asked if speed > 0]
    said = predictor.predict(phase, [case for _, case, _ in asked])
    votes = [
        Vote(one.peer, case, speed, expected.tokens_per_s, is_possible(one.row))
        for (one, case, speed), expected in zip(asked, said, strict=True)
    ]
    cells = agreed(votes)
    expected = predictor.predict(phase, [cell.case for cell in cells])
    return [
        Figure(
            device=f"peers {hardware}",
            source="peers",
            model="",
            phase=phase,
            case=cell.case,
            tokens_per_s=guess.tokens_per_s * exp(cell.residual),
            weight=TRUST,
            gpus=1,
            settings="",
        )
        for cell, guess in zip(cells, expected, strict=True)
    ]


def _asked(row: SharedRow, phase: Phase) -> tuple[Case, float]:
    match phase:
        case Phase.DECODE:
            return decode_case_of(row), row.decode_tokens_per_s
        case Phase.PREFILL:
            return prefill_case_of(row), row.prefill_tokens_per_s


def _hardware(row: SharedRow) -> str:
    """Devices whose rates are within about a fifth of each other count as one kind."""
    return f"{row.kind} {row.backend} {round(2 * log2(row.bandwidth_gbs))} {round(log2(row.matrix_tflops))}"


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(NICENESS)  # the owner's work and the jobs come first
    sys.exit(main(sys.argv[1:]))
