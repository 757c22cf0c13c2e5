"""Print the meta-model's errors: `python -m core.metamodel.evaluate [--json] [--figures FILE --hardware FILE]`.

Without --figures every device of our own figures is left out in turn and the model trained anew. With --figures the
landed prior is measured, as it is, on that file. Never writes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from core.metamodel.evaluation import Report, guess, left_out, report
from core.metamodel.figures import read_figures, read_hardware, read_loads
from core.metamodel.predictor import open_prior
from core.metamodel.train import ASSETS


def main(arguments: list[str]) -> int:
    """Evaluate and print a table, or JSON."""
    options = _options().parse_args(arguments)
    hardware = read_hardware(options.hardware)
    figures = read_figures(options.figures or ASSETS / "figures.csv", hardware)
    loads = read_loads(options.figures or ASSETS / "figures.csv", hardware)
    guesses = guess(figures, open_prior(options.prior)) if options.figures else left_out(figures)
    found = report(guesses, loads)
    text = msgspec.json.format(msgspec.json.encode(found)).decode() if options.json else table(found)
    sys.stdout.write(text + "\n")
    return 0


def table(found: Report) -> str:
    """The report as aligned text."""
    lines = [f"{'median error, %':<52}{'rows':>7}{'devices':>9}{'by row':>9}{'by device':>11}"]
    for title, score in found.scores.items():
        lines.append(
            f"{title:<52}{score.rows:>7}{score.devices:>9}{score.over_rows:>9.1f}{score.over_devices:>11.1f}"
        )
    if found.fit_loads:
        lines.append(f"fit told rightly: {found.fit_right} of {found.fit_loads} loads")
    for phase, s in found.spreads.items():
        bounds = f"cold {s.low:+.2f} {s.high:+.2f}, own {s.own_low:+.2f} {s.own_high:+.2f}"
        covered = 100 * found.coverage[phase]
        lines.append(f"{phase} 10/90 % log bounds: {bounds}; {covered:.0f} % inside after one own run")
    return "\n".join(lines)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m core.metamodel.evaluate")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--figures", type=Path, help="measure the landed prior on this CSV file")
    parser.add_argument("--hardware", type=Path, default=ASSETS / "hardware.csv", help="datasheet values for it")
    parser.add_argument("--prior", type=Path, default=ASSETS / "prior.json", help="the prior to measure")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
