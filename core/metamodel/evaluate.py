"""Print the meta-model's errors: `python -m core.metamodel.evaluate [--json] [--figures FILE --hardware FILE]`.

Without --figures every device of our own figures is left out in turn and the model trained anew (--by source: every
source). With --figures the landed prior is measured, as it is, on that file. Writes nothing but the picture of
predicted against measured that --picture FILE.svg asks for.
"""

from __future__ import annotations

import argparse
import sys
from math import exp
from pathlib import Path

import msgspec

from core.metamodel.calibration import Cover, cover, nested
from core.metamodel.evaluation import OURS, Told, device, device_folds, left_out, source, source_folds, tell
from core.metamodel.figures import Figure, read_figures, read_hardware, read_loads
from core.metamodel.predictor import Phase, Predictor, open_prior
from core.metamodel.scatter import Point, scatter_svg
from core.metamodel.scores import RUNS, Line, figures, lines
from core.metamodel.train import ASSETS

BAD_INPUT = 2


class Report(msgspec.Struct, frozen=True):
    """figures holds what is promised; all shares and errors are fractions of one. covers: cold and after one run."""

    figures: dict[str, float | None]
    lines: list[Line]
    covers: dict[Phase, tuple[Cover, Cover]]
    rows: int
    loads: int


def main(arguments: list[str]) -> int:
    """Evaluate and print a table, or JSON. 2: a file cannot be read, said in one line."""
    options = _options().parse_args(arguments)
    try:
        found, told = _report(options)
        if options.picture:
            options.picture.write_text(_picture(told), encoding="utf-8")
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    text = msgspec.json.format(msgspec.json.encode(found)).decode() if options.json else table(found)
    sys.stdout.write(text + "\n")
    return 0


def table(found: Report) -> str:
    """The report as aligned text: median errors in percent, by row and by device, after 0, 1 and 3 own runs."""
    parts = [f"{'median error in %, by row | by device':<48}{'cold':>16}{'1 own run':>16}{'3 own runs':>16}"]
    title = ""
    for line in found.lines:
        if line.selection != title:
            title = line.selection
            parts.append(f"{title}: {line.scores[0].rows} rows, {line.scores[0].devices} devices")
        parts.append(f"  {line.predictor:<46}" + "".join(_cell(line, runs) for runs in RUNS))
    for phase, pair in found.covers.items():
        parts += [_covered(f"{phase}, {when}", c) for when, c in zip(("cold", "1 own run"), pair, strict=True)]
    parts += [f"{name:<30}{'-' if value is None else f'{value:.4f}'}" for name, value in found.figures.items()]
    return "\n".join([*parts, f"from {found.rows} figures and {found.loads} loads"])


def _picture(told: list[Told]) -> str:
    """Every figure as a dot, in its device's colour: both phases, ours before any own run."""
    points = [
        Point(exp(said), exp(measured), device(figure))
        for one in told
        for figure, said, measured in zip(one.figures, one.said[OURS], one.measured, strict=True)
    ]
    return scatter_svg(points, title="Reading and writing, before any own run", unit="tokens per second")


def _report(options: argparse.Namespace) -> tuple[Report, list[Told]]:
    path = options.figures or ASSETS / "figures.csv"
    hardware = read_hardware(options.hardware)
    rows, loads = read_figures(path, hardware), read_loads(path, hardware)
    told = tell(rows, open_prior(options.prior)) if options.figures else _left_out(rows, options.by)
    covers = {t.phase: _covers(t, options) for t in told}
    cold = {phase: pair[0] for phase, pair in covers.items()}
    return Report(figures(told, loads, covers=cold), lines(told), covers, len(rows), len(loads)), told


def _left_out(rows: list[Figure], by: str) -> list[Told]:
    if by == "source":
        return left_out(rows, source_folds(rows), key=source)
    return left_out(rows, device_folds(rows), key=device)


def _covers(told: Told, options: argparse.Namespace) -> tuple[Cover, Cover]:
    """On a file that was not trained on, by the landed bounds; on our own, by bounds made without the device."""
    if options.figures:
        return cover(told, Predictor(open_prior(options.prior)).side(told.phase).spread)
    return nested(told)


def _cell(line: Line, runs: int) -> str:
    found = line.scores.get(runs)
    return f"{100 * found.over_rows:9.1f} |{100 * found.over_devices:5.1f}" if found is not None else f"{'-':>16}"


def _covered(title: str, c: Cover) -> str:
    return (
        f"80 % interval, {title}: {100 * c.inside_by_device:.1f} % inside, {100 * c.broken_by_device:.1f} % below, "
        f"every device counting the same; by row {100 * c.inside:.1f} % and {100 * c.broken:.1f} %"
    )


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m core.metamodel.evaluate")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--by", choices=("device", "source"), default="device", help="what is left out of our own")
    parser.add_argument("--figures", type=Path, help="measure the landed prior on this CSV file")
    parser.add_argument("--hardware", type=Path, default=ASSETS / "hardware.csv", help="datasheet values for it")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw predicted against measured")
    parser.add_argument("--prior", type=Path, default=ASSETS / "prior.json", help="the prior to measure")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
