"""How peers kept their promises: one number a peer, 1 for as quoted, above 1 for slower, below 1 for faster.

Pure and bounded: the oldest score goes when there are too many. Starts at 1: a stranger is believed once.
"""

from __future__ import annotations

from core.job import PeerId

START = 1.0
KEPT = 0.8
BEST, WORST = 0.25, 4.0
MAX_PEERS = 4_096


def moved(reputation: float, *, measured_s: float, quoted_s: float) -> float:
    """The reputation after one job: .8 of it and .2 of measured over quoted time, which counts from 1/4 to 4."""
    ratio = measured_s / quoted_s if quoted_s > 0 else WORST
    return KEPT * reputation + (1 - KEPT) * min(WORST, max(BEST, ratio))


def failed(reputation: float) -> float:
    """The reputation after a job that the peer broke off: as if it had been as late as counts."""
    return KEPT * reputation + (1 - KEPT) * WORST


class PeerScores:
    """The reputations one requester keeps."""

    def __init__(self, known: dict[PeerId, float] | None = None) -> None:
        self._scores = dict(known or {})

    def of(self, peer_id: PeerId) -> float:
        """This peer's reputation."""
        return self._scores.get(peer_id, START)

    def note(self, peer_id: PeerId, *, measured_s: float, quoted_s: float) -> None:
        """A job's first token came after measured_s seconds; quoted_s was promised."""
        self._keep(peer_id, moved(self.of(peer_id), measured_s=measured_s, quoted_s=quoted_s))

    def note_failure(self, peer_id: PeerId) -> None:
        """The peer broke a job off."""
        self._keep(peer_id, failed(self.of(peer_id)))

    def _keep(self, peer_id: PeerId, reputation: float) -> None:
        self._scores.pop(peer_id, None)
        self._scores[peer_id] = reputation
        if len(self._scores) > MAX_PEERS:
            del self._scores[next(iter(self._scores))]
