"""Train the prior on the project's own figures: `python -m core.metamodel.train`. Deterministic, one thread, a minute.

Reads assets/metamodel/*.csv and writes assets/metamodel/prior.json. Never runs in the engine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from core.metamodel.boosting import fit
from core.metamodel.calibration import spread
from core.metamodel.datasheets import Datasheet
from core.metamodel.evaluation import ROOFLINE, Told, device, device_folds, left_out
from core.metamodel.figures import Figure, Hardware, read_figures, read_hardware
from core.metamodel.predictor import Phase, Prior, Side

ASSETS = Path(__file__).parents[2] / "assets" / "metamodel"


def main(arguments: list[str]) -> int:
    """Train and write the asset."""
    parser = argparse.ArgumentParser(prog="python -m core.metamodel.train")
    parser.add_argument("--out", type=Path, default=ASSETS / "prior.json")
    out: Path = parser.parse_args(arguments).out
    hardware = read_hardware(ASSETS / "hardware.csv")
    figures = read_figures(ASSETS / "figures.csv", hardware)
    out.write_bytes(msgspec.json.encode(train(figures, hardware)))
    sys.stdout.write(f"{out}: {out.stat().st_size} bytes from {len(figures)} figures\n")
    return 0


def train(figures: Sequence[Figure], hardware: dict[str, Hardware]) -> Prior:
    """The prior of all figures, with the bounds that leaving devices out gives."""
    prior = fit(figures)
    told = {t.phase: t for t in left_out(figures, device_folds(figures), key=device)}
    return msgspec.structs.replace(
        prior,
        decode=_bounded(prior.decode, told[Phase.DECODE]),
        prefill=_bounded(prior.prefill, told[Phase.PREFILL]),
        datasheets={
            name: Datasheet(h.memory_gib, h.bandwidth_gbs, h.matrix_tflops)
            for name, h in sorted(hardware.items())
            if h.memory_gib is not None and h.bandwidth_gbs is not None and h.matrix_tflops is not None
        },
    )


def _bounded(side: Side, told: Told) -> Side:
    return msgspec.structs.replace(side, spread=spread(told), plain_spread=spread(told, name=ROOFLINE))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
