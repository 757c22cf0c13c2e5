"""The peers that this one knows, as its owner sees them. Plain values; never decides anything."""

from __future__ import annotations

import msgspec

MAX_LISTED = 64


class PeerSeen(msgspec.Struct, frozen=True):
    """One peer. since: connected from then on (None: it is not); is_outbound: we dialled; is_relayed: through another
    peer; sources: where it was learned; seen_at: when it was last reached, None for never; times are seconds since the
    epoch. rtt_ms: there and back, the relay's detour included (None: not measured yet). score: how it keeps its
    promises, 1 for as quoted, more for slower (None: nothing is known)."""

    peer_id: str
    address: str
    sources: tuple[str, ...]
    since: float | None = None
    is_outbound: bool = False
    is_relayed: bool = False
    seen_at: float | None = None
    rtt_ms: int | None = None
    score: float | None = None


class PeersSeen(msgspec.Struct, frozen=True):
    """known: how many are in the book; peers: the connected ones first, at most MAX_LISTED."""

    known: int = 0
    peers: tuple[PeerSeen, ...] = ()
