"""The rows this peer has heard of: checked, one set a peer, bounded, and forgotten when they are old.

Pure: `today` is an argument. Never trusts whoever brought a set: its own peer must have signed it.
"""

from __future__ import annotations

from core.job import PeerId
from core.metamodel.federation import Heard
from p2p.row_messages import MAX_AGE_DAYS, SignedRows, rows_fault

MAX_PEERS = 256
STALE = "no news: as new, or newer, rows of this peer are known, or only newer ones have room"


class RowBook:
    """At most max_peers sets. Full: the set of the oldest day goes, and of those the one that came first."""

    def __init__(self, max_peers: int = MAX_PEERS) -> None:
        self._max_peers = max_peers
        self._sets: dict[str, SignedRows] = {}

    def __len__(self) -> int:
        return len(self._sets)

    def add(self, signed: SignedRows, *, today: int) -> str | None:
        """Keep a peer's rows; the fault if they are no good, STALE if they are no news, None if they are kept."""
        known = self._sets.get(signed.peer_id)
        if known is not None and known.day >= signed.day:
            return STALE
        if fault := rows_fault(signed, today=today):
            return fault
        self._sets.pop(signed.peer_id, None)
        self._sets = {peer: kept for peer, kept in self._sets.items() if kept.day >= today - MAX_AGE_DAYS}
        if len(self._sets) >= self._max_peers:
            oldest = min(self._sets, key=lambda peer: self._sets[peer].day)
            if self._sets[oldest].day > signed.day:
                return STALE
            del self._sets[oldest]
        self._sets[signed.peer_id] = signed
        return None

    def newest(self, count: int) -> tuple[SignedRows, ...]:
        """The sets that came last, to hand on."""
        return tuple(self._sets.values())[-count:]

    def heard(self, *, without: PeerId | None = None) -> tuple[Heard, ...]:
        """Every row with its peer, those of one peer left out: our own are no news."""
        return tuple(
            Heard(PeerId(peer), row) for peer, kept in self._sets.items() if peer != without for row in kept.rows
        )
