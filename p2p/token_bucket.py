"""How often peers may ask: a token bucket for each peer and one for all of them together.

Pure and bounded: `now` is an argument, in seconds on any steady clock. A full bucket is the same as none, and is
forgotten.
"""

from __future__ import annotations

import msgspec

from core.job import PeerId

MAX_BUCKETS = 4_096


class Rate(msgspec.Struct, frozen=True):
    """So many a second in the long run, and so many at once."""

    per_s: float
    burst: float


class Turn(msgspec.Struct, frozen=True):
    """Whether it is a peer's turn: wait_s is 0, or when to ask again; is_own says that its own rate is the reason."""

    wait_s: float = 0.0
    is_own: bool = False


class TokenBuckets:
    """The buckets of one kind of question. Too many peers at once: the bucket that was used longest ago goes."""

    def __init__(self, each: Rate, total: Rate) -> None:
        self._each = each
        self._total = total
        self._used: dict[PeerId, tuple[float, float]] = {}
        self._used_in_all = (0.0, 0.0)

    def __len__(self) -> int:
        return len(self._used)

    def take(self, peer: PeerId, *, now: float) -> Turn:
        """One question of this peer: its turn, or how long it has to wait. A refused one uses nothing up."""
        own = _used_now(self._used.pop(peer, (0.0, now)), self._each, now=now)
        in_all = _used_now(self._used_in_all, self._total, now=now)
        wait_own, wait_all = _wait(own, self._each), _wait(in_all, self._total)
        is_turn = wait_own == wait_all == 0.0
        if own or is_turn:
            self._used[peer] = (own + is_turn, now)
        self._used_in_all = (in_all + is_turn, now)
        self._forget(now)
        return Turn(max(wait_own, wait_all), wait_own > 0.0)

    def _forget(self, now: float) -> None:
        """The first is the one that was used longest ago; what is empty by now is let go of in passing."""
        for peer in list(self._used)[:2]:
            if _used_now(self._used[peer], self._each, now=now) == 0.0:
                del self._used[peer]
        while len(self._used) > MAX_BUCKETS:
            del self._used[next(iter(self._used))]


def _used_now(used: tuple[float, float], rate: Rate, *, now: float) -> float:
    tokens, at = used
    return max(0.0, tokens - max(0.0, now - at) * rate.per_s)


def _wait(used: float, rate: Rate) -> float:
    return max(0.0, (used + 1 - rate.burst) / rate.per_s)
