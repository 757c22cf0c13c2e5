"""How far each peer is trusted: what it kept and broke, and for how long nothing is to do with it.

Pure: `now` is an argument, in seconds since the epoch. Bad luck (a late answer, a broken line, a closed door) makes a
peer less wanted and never bans it; only what an honest peer does not do adds up to a ban.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec

from core.job import PeerId
from p2p.peer_score import START, failed, moved

HALF_LIFE_S = 600.0
BAN_AT = 100.0
FIRST_BAN_S = 120.0
BAN_GROWTH = 3.0
MAX_BAN_S = 86_400.0
FORGIVEN_AFTER_S = 86_400.0
MAX_PEERS = 4_096


class Fault(StrEnum):
    """What a peer did wrong."""

    BAD_FRAME = "bad_frame"
    FALSE_PROOF = "false_proof"
    TOO_OFTEN = "too_often"
    FAILED_AUDIT = "failed_audit"
    DOUBTED = "doubted"
    BROKE_OFF = "broke_off"
    REFUSED_DIAL = "refused_dial"


POINTS = {
    Fault.BAD_FRAME: 25.0,
    Fault.FALSE_PROOF: 25.0,
    Fault.TOO_OFTEN: 1.0,
    Fault.FAILED_AUDIT: 60.0,
    Fault.DOUBTED: 0.0,
    Fault.BROKE_OFF: 0.0,
    Fault.REFUSED_DIAL: 0.0,
}
"""BAN_AT of them within a few half-lives is a ban; none are bad luck."""

Report = Callable[[PeerId, Fault], None]
"""The one place that hears of peers' faults, from every exchange."""


class Standing(msgspec.Struct, frozen=True):
    """What is remembered of one peer. points fade by half every HALF_LIFE_S since `at`; bans fall by one for each
    FORGIVEN_AFTER_S without another; reputation is measured over promised time (p2p.peer_score)."""

    at: float = 0.0
    points: float = 0.0
    bans: int = 0
    banned_until: float = 0.0
    reputation: float = START
    finished: int = 0

    def is_banned(self, now: float) -> bool:
        """Whether nothing is to do with this peer now."""
        return now < self.banned_until


class TrustCounts(msgspec.Struct, frozen=True):
    """For the metrics: who is banned now, bans ever, and faults by kind, since the start."""

    banned: int
    bans: int
    faults: dict[str, int]


def after_fault(standing: Standing, fault: Fault, *, now: float) -> Standing:
    """The standing after this fault; a ban begins when the points are full, each longer than the one before."""
    reputation = standing.reputation
    if fault in (Fault.BROKE_OFF, Fault.REFUSED_DIAL, Fault.FAILED_AUDIT, Fault.DOUBTED):
        reputation = failed(reputation)
    points = _faded(standing, now) + POINTS[fault]
    if points < BAN_AT or standing.is_banned(now):
        points = min(points, BAN_AT)
        return msgspec.structs.replace(standing, at=max(now, standing.at), points=points, reputation=reputation)
    bans = _remembered_bans(standing, now)
    lasts_s = min(MAX_BAN_S, FIRST_BAN_S * BAN_GROWTH ** min(bans, 16))
    return Standing(now, 0.0, bans + 1, now + lasts_s, reputation, standing.finished)


class Trust:
    """What one peer remembers of others. Full: of those who are not banned the oldest goes, then the ban that ends
    first. kept is called with each standing that should outlive this process: bans, and finished jobs."""

    def __init__(
        self, known: Iterable[tuple[PeerId, Standing]] = (), *, kept: Callable[[PeerId, Standing], None] | None = None
    ) -> None:
        self._standings: dict[PeerId, Standing] = dict(known)
        self._kept = kept
        self._faults = dict.fromkeys(Fault, 0)
        self._bans = 0

    def __len__(self) -> int:
        return len(self._standings)

    def of(self, peer: PeerId) -> Standing:
        """What is known of this peer."""
        return self._standings.get(peer, Standing())

    def is_banned(self, peer: PeerId, *, now: float) -> bool:
        """Whether nothing is to do with this peer now."""
        return self.of(peer).is_banned(now)

    def banned(self, *, now: float) -> tuple[PeerId, ...]:
        """Who is banned now."""
        return tuple(peer for peer, standing in self._standings.items() if standing.is_banned(now))

    def note(self, peer: PeerId, fault: Fault, *, now: float) -> bool:
        """The peer did this; whether a ban begins with it."""
        before, after = self.of(peer), after_fault(self.of(peer), fault, now=now)
        self._faults[fault] += 1
        self._keep(peer, after, now=now)
        if not after.is_banned(now) or before.is_banned(now):
            return False
        self._bans += 1
        self._tell(peer)
        return True

    def note_first_token(self, peer: PeerId, *, measured_s: float, quoted_s: float, now: float) -> None:
        """A job's first token came after measured_s seconds; quoted_s was promised."""
        standing = _at(self.of(peer), now)
        reputation = moved(standing.reputation, measured_s=measured_s, quoted_s=quoted_s)
        self._keep(peer, msgspec.structs.replace(standing, reputation=reputation), now=now)

    def note_finished(self, peer: PeerId, *, now: float) -> None:
        """The peer brought a job to its end, as promised."""
        standing = _at(self.of(peer), now)
        self._keep(peer, msgspec.structs.replace(standing, finished=standing.finished + 1), now=now)
        self._tell(peer)

    def counts(self, *, now: float) -> TrustCounts:
        """What happened so far."""
        return TrustCounts(len(self.banned(now=now)), self._bans, {str(f): n for f, n in self._faults.items()})

    def _keep(self, peer: PeerId, standing: Standing, *, now: float) -> None:
        self._standings.pop(peer, None)
        if len(self._standings) >= MAX_PEERS:
            del self._standings[self._least(now)]
        self._standings[peer] = standing

    def _least(self, now: float) -> PeerId:
        free = next((peer for peer, standing in self._standings.items() if not standing.is_banned(now)), None)
        return free or min(self._standings, key=lambda peer: self._standings[peer].banned_until)

    def _tell(self, peer: PeerId) -> None:
        if self._kept is not None:
            self._kept(peer, self._standings[peer])


def _faded(standing: Standing, now: float) -> float:
    return float(standing.points * 0.5 ** (max(0.0, now - standing.at) / HALF_LIFE_S))


def _at(standing: Standing, now: float) -> Standing:
    return msgspec.structs.replace(standing, at=max(now, standing.at), points=_faded(standing, now))


def _remembered_bans(standing: Standing, now: float) -> int:
    quiet_s = max(0.0, now - standing.banned_until)
    return max(0, standing.bans - int(quiet_s / FORGIVEN_AFTER_S))
