"""Who is asked for which piece next. Pure: `now` is an argument, sources are names, pieces are numbers.

Lowest pieces first, so that the file grows from its start. A source holds few pieces at once, as many as it sends in
LOOK_AHEAD_S; one that stops, or is slower than a piece in PIECE_S, loses them to others; when nothing is left to ask
for, pieces that are late are asked of a second source too. A source that sent a wrong piece is never asked again.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from math import ceil, inf

import msgspec

LOOK_AHEAD_S = 0.5
LEAST_ASKED, MOST_ASKED, FIRST_ASKED = 2, 6, 2
STALL_S = 5.0
PIECE_S = 60.0
MOST_HOLDERS = 2
NEWER_WEIGHT = 0.3


class Ask(msgspec.Struct, frozen=True):
    """Ask this source for these pieces."""

    source: str
    pieces: tuple[int, ...]


class _Source:
    """What one source was asked for, oldest first, what of it is being checked, and how long a piece takes it."""

    def __init__(self, now: float) -> None:
        self.asked: dict[int, float] = {}
        self.checked: set[int] = set()
        self.piece_s = 0.0
        self.heard_at = now
        self.piece_at = now

    @property
    def allowed(self) -> int:
        """How many pieces it may hold."""
        if not self.piece_s:
            return FIRST_ASKED
        return max(LEAST_ASKED, min(MOST_ASKED, ceil(LOOK_AHEAD_S / self.piece_s)))

    def expected_s(self, place: int, *, now: float) -> float:
        """How long until the piece at this place of its row comes; a source that is late is expected to be slow."""
        if not self.piece_s:
            return inf
        return (place + 1) * max(self.piece_s, now - self.piece_at if self.asked else 0.0)

    def note_piece(self, now: float) -> None:
        """A piece has come."""
        took = max(1e-6, now - self.piece_at)
        self.piece_s = took if not self.piece_s else self.piece_s + NEWER_WEIGHT * (took - self.piece_s)
        self.heard_at = self.piece_at = now

    def is_stuck(self, now: float) -> bool:
        """Whether it owes pieces and has stopped, or is too slow to wait for."""
        return bool(self.asked) and (now - self.heard_at > STALL_S or now - self.piece_at > PIECE_S)


class PieceSchedule:
    """The pieces of one file, and the sources of one manifest."""

    def __init__(self, pieces: int, *, done: Iterable[int] = ()) -> None:
        self._pieces = pieces
        self._done = set(done)
        self._todo = [index for index in range(pieces) if index not in self._done]
        self._sources: dict[str, _Source] = {}
        self._holders: dict[int, set[str]] = {}
        self._condemned: set[str] = set()

    @property
    def is_done(self) -> bool:
        """Whether every piece is here."""
        return len(self._done) == self._pieces

    @property
    def done(self) -> frozenset[int]:
        """The pieces that are here."""
        return frozenset(self._done)

    @property
    def done_count(self) -> int:
        """How many pieces are here."""
        return len(self._done)

    @property
    def sources(self) -> tuple[str, ...]:
        """Who may be asked now."""
        return tuple(self._sources)

    def is_condemned(self, source: str) -> bool:
        """Whether this source sent a wrong piece."""
        return source in self._condemned

    def pieces_per_s(self, source: str) -> float:
        """How fast this source is; 0 while that is not known, or when it has left."""
        found = self._sources.get(source)
        return 1 / found.piece_s if found is not None and found.piece_s else 0.0

    def join(self, source: str, *, now: float) -> None:
        """A source that may be asked from now on; a condemned one stays out."""
        if source not in self._condemned and source not in self._sources:
            self._sources[source] = _Source(now)

    def leave(self, source: str) -> None:
        """A source is gone; what it was asked for is for others."""
        left = self._sources.pop(source, None)
        for index in (*left.asked, *left.checked) if left is not None else ():
            self._release(source, index)

    def condemn(self, source: str) -> None:
        """A source sent a wrong piece: it leaves for good."""
        self._condemned.add(source)
        self.leave(source)

    def is_wanted(self, source: str, index: int) -> bool:
        """Whether this source was asked for this piece; one that sends others breaks the protocol."""
        return source in self._sources and index in self._sources[source].asked

    def is_here(self, index: int) -> bool:
        """Whether this piece came before, from another."""
        return index in self._done

    def heard(self, source: str, *, now: float) -> None:
        """Some bytes came from this source."""
        if source in self._sources:
            self._sources[source].heard_at = now

    def arrived(self, source: str, index: int, *, now: float) -> None:
        """A whole piece came from this source. It is nobody else's until keep, or until its source leaves."""
        found = self._sources.get(source)
        if found is None or found.asked.pop(index, None) is None:
            return
        found.note_piece(now)
        found.checked.add(index)

    def keep(self, source: str, index: int) -> None:
        """This piece of this source is verified and written, or was here before."""
        self._done.add(index)
        if source in self._sources:
            self._sources[source].checked.discard(index)
        self._release(source, index)

    def lose(self, indices: Iterable[int]) -> None:
        """These pieces turned out not to be on disk."""
        for index in indices:
            if index in self._done:
                self._done.discard(index)
                self._give_back(index)

    def silent(self, now: float) -> tuple[str, ...]:
        """Sources that owe pieces and have stopped, or are too slow to wait for."""
        return tuple(name for name, source in self._sources.items() if source.is_stuck(now))

    def asks(self, now: float) -> tuple[Ask, ...]:
        """What to ask now, the fastest sources first; counted as asked from now on."""
        found = []
        for name in sorted(self._sources, key=self.pieces_per_s, reverse=True):
            source = self._sources[name]
            if len(source.asked) > source.allowed // 2:
                continue  # a question costs as much for one piece as for three
            chosen = []
            while len(source.asked) < source.allowed and (index := self._next(name, now)) is not None:
                if not source.asked:
                    source.heard_at = source.piece_at = now
                source.asked[index] = now
                self._holders.setdefault(index, set()).add(name)
                chosen.append(index)
            if chosen:
                found.append(Ask(name, tuple(chosen)))
        return tuple(found)

    def _next(self, name: str, now: float) -> int | None:
        """The lowest piece that nobody was asked for; else one that is late elsewhere."""
        while self._todo:
            index = heappop(self._todo)
            if index not in self._done and index not in self._holders:
                return index
        return self._late(name, now)

    def _late(self, name: str, now: float) -> int | None:
        """The piece that its only holder sends last of all, if this source would be sooner."""
        ours = self._sources[name]
        mine_s = (len(ours.asked) + 1) * ours.piece_s if ours.piece_s else inf
        late = [
            (other.expected_s(place, now=now), -index)
            for other_name, other in self._sources.items()
            if other_name != name
            for place, index in enumerate(other.asked)
            if index not in self._done and len(self._holders[index]) < MOST_HOLDERS and index not in ours.asked
        ]
        worst_s, lowest = max(late, default=(0.0, 0))
        return -lowest if late and mine_s < worst_s else None

    def _release(self, source: str, index: int) -> None:
        holders = self._holders.get(index, set())
        holders.discard(source)
        if not holders:
            self._holders.pop(index, None)
            self._give_back(index)

    def _give_back(self, index: int) -> None:
        if index not in self._done:
            heappush(self._todo, index)

