"""How far this computer's clock is off, by what peers' clocks say: a median that no few peers can move.

Pure and bounded. Corrects only what is off by more than a minute: expiry needs no better.
"""

from __future__ import annotations

from statistics import median

import msgspec

from core.job import PeerId

CORRECTED_FROM_S = 60.0
MOST_S = 366 * 86_400.0
MAX_SAMPLES = 64
FEWEST_GROUPS = 3
TRUSTED_VOTES = 3


class _Sample(msgspec.Struct, frozen=True):
    skew_s: float
    group: str
    is_trusted: bool


class ClockSkew:
    """Skews of peers' clocks against ours; above zero: theirs are ahead. One vote a neighbourhood, the newest; peers
    that the network file names have three."""

    def __init__(self) -> None:
        self._samples: dict[PeerId, _Sample] = {}

    def note(self, peer_id: PeerId, skew_s: float, *, group: str, is_trusted: bool) -> None:
        """A peer's clock is this far ahead of ours. group: its neighbourhood; empty for none."""
        if not -MOST_S <= skew_s <= MOST_S:
            return
        self._samples.pop(peer_id, None)
        self._samples[peer_id] = _Sample(skew_s, group or peer_id, is_trusted)
        if len(self._samples) > MAX_SAMPLES:
            del self._samples[next(iter(self._samples))]

    def correction_s(self) -> float:
        """What to add to our clock; 0 while it is off by a minute or less, or too few say so."""
        votes = {sample.group: sample for sample in self._samples.values()}
        if len(votes) < FEWEST_GROUPS and not any(sample.is_trusted for sample in votes.values()):
            return 0.0
        skews = [s.skew_s for s in votes.values() for _ in range(TRUSTED_VOTES if s.is_trusted else 1)]
        skew_s = median(skews)
        return skew_s if abs(skew_s) > CORRECTED_FROM_S else 0.0


def clock_sentence(correction_s: float) -> str:
    """What to tell the owner; empty when the clock is right."""
    if not correction_s:
        return ""
    minutes = max(1, round(abs(correction_s) / 60))
    span = f"{minutes} {'minute' if minutes == 1 else 'minutes'}" if minutes < 180 else f"{round(minutes / 60)} hours"
    way = "behind" if correction_s > 0 else "ahead of"
    return (
        f"This computer's clock is about {span} {way} its peers' clocks. Offers are timed by theirs meanwhile; "
        "set the clock, so that nothing else goes wrong."
    )
