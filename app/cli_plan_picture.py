"""The picture of `starling plan --picture FILE`: what was measured here beside what was predicted.

Writes one file, SVG or PNG by its ending. Never measures.
"""

from __future__ import annotations

import os
from pathlib import Path

from core.metamodel.meta_model import MetaModel
from core.metamodel.outlook import Outlook, best_of_each_kind
from core.metamodel.own_points import own_points
from core.metamodel.scatter import Expected, scatter_svg
from core.node_state import NodeState
from core.trouble import Trouble

SHOWN = 10


def check_place(path: Path) -> None:
    """Raises Trouble where a picture could not be written, before any work is done for it."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise Trouble(f"{path.name} ends neither in .svg nor in .png.")
    if not path.parent.is_dir():
        raise Trouble(f"The picture cannot be written: there is no folder {path.parent}.")
    if path.is_dir():
        raise Trouble(f"The picture cannot be written: {path} is a folder.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise Trouble(f"The picture cannot be written: you may not write to {path}.")


def write_picture(path: Path, look: Outlook, *, model: MetaModel, state: NodeState) -> None:
    """Raises Trouble where the file cannot be written."""
    svg = picture(look, model=model, state=state)
    try:
        if path.suffix.lower() == ".svg":
            path.write_text(svg, encoding="utf-8")
        else:
            from app.gui.svg_picture import write_png

            write_png(svg, path)
    except OSError as error:
        why = "is the disk full, or may you not write there?"
        raise Trouble(f"The picture cannot be written to {path}: {why}") from error


def picture(look: Outlook, *, model: MetaModel, state: NodeState) -> str:
    """Own runs as dots, the best plans of each kind as hollow marks with their bounds."""
    question = look.question
    known = (question.benchmark, *question.measured)
    about = question.card.model
    own = own_points(model, state.speeds, machine=question.machine, benchmarks=known, about=about)
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
