"""The picture of `starling plan --picture FILE`: what was measured here beside what was predicted.

Writes one file, SVG or PNG by its ending. Never measures.
"""

from __future__ import annotations

from pathlib import Path

from core.metamodel.meta_model import MetaModel
from core.metamodel.outlook import Outlook, best_of_each_kind
from core.metamodel.own_points import own_points
from core.metamodel.scatter import Expected, scatter_svg
from core.node_state import NodeState
from core.trouble import Trouble

SHOWN = 10


def write_picture(path: Path, look: Outlook, *, model: MetaModel, state: NodeState) -> None:
    """Raises Trouble for another ending, OSError where the file cannot be written."""
    svg = picture(look, model=model, state=state)
    match path.suffix.lower():
        case ".svg":
            path.write_text(svg, encoding="utf-8")
        case ".png":
            from app.gui.svg_picture import write_png

            write_png(svg, path)
        case _:
            raise Trouble(f"{path.name} ends neither in .svg nor in .png.")


def picture(look: Outlook, *, model: MetaModel, state: NodeState) -> str:
    """Own runs as dots, the best plans of each kind as hollow marks with their bounds."""
    question = look.question
    own = own_points(model, state.speeds, machine=question.machine, benchmarks=(question.benchmark, *question.measured))
    expected = [
        Expected(
            row.estimate.decode_tokens_per_s,
            row.estimate.decode_low_tokens_per_s,
            row.estimate.decode_high_tokens_per_s,
            row.plan.quantization,
        )
        for _, row in best_of_each_kind(look.ranked)[:SHOWN]
    ]
    name = question.card.title
    title = f"{name[:1].upper()}{name[1:]} on {question.machine.devices[0].name}: writing speed"
    return scatter_svg(own, expected=expected, title=title, unit="tokens per second")
