"""How a step's rows lie in one forward pass: decoding rows first, in the order of their slots, then prompts.

Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from core.runtimes.sequence import Rows as Share
from core.runtimes.sequence import Sequence
from core.runtimes.torch_attention import Rows, Run


class Laid(NamedTuple):
    """A step ready to run: its tokens, how they lie, which of them draw and for whom, and each one's share."""

    tokens: list[int]
    rows: Rows
    drawing: list[int]
    speakers: list[Sequence]
    order: list[Share]


def lay_out(shares: list[Share]) -> Laid:
    """Order the shares of a step, which come by rising slot."""
    single = [share for share in shares if share.count == 1]
    longer = [share for share in shares if share.count > 1]
    order = [*single, *longer]
    rows = Rows(
        [share.sequence.slot for share in single],
        [share.start for share in single],
        [Run(share.sequence.slot, share.start, share.count) for share in longer],
    )
    tokens: list[int] = []
    drawing: list[int] = []
    for share in order:
        tokens += share.sequence.tokens[share.start : share.start + share.count]
        if share.draws:
            drawing.append(len(tokens) - 1)
    return Laid(tokens, rows, drawing, [share.sequence for share in order if share.draws], order)
