"""How peers kept their promises: one number a peer, 1 for as quoted, above 1 for slower, below 1 for faster.

Pure: p2p.trust keeps the numbers. Starts at 1: a stranger is believed once.
"""

from __future__ import annotations

START = 1.0
KEPT = 0.8
BEST, WORST = 0.25, 4.0


def moved(reputation: float, *, measured_s: float, quoted_s: float) -> float:
    """The reputation after one job: .8 of it and .2 of measured over quoted time, which counts from 1/4 to 4."""
    ratio = measured_s / quoted_s if quoted_s > 0 else WORST
    return KEPT * reputation + (1 - KEPT) * min(WORST, max(BEST, ratio))


def failed(reputation: float) -> float:
    """The reputation after a job that the peer broke off: as if it had been as late as counts."""
    return KEPT * reputation + (1 - KEPT) * WORST
