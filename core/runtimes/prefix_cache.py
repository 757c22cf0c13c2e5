"""What the KV of slots without a job still holds, what was saved to host memory, and which of it is worth keeping.

Pure: knows tokens and places, never the KV itself. Nothing is ever given to a job of another scope.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import msgspec

from core.job import JobId

# Fewer tokens are read again sooner than they are found and copied.
MIN_SHARED = 16
# Of so many entries one is gone on from, until more is known; and how many are remembered to know it.
FIRST_ODDS = 4
REMEMBERED = 256
# Each is compared with every new prompt.
MAX_SAVED = 256


class Costs(msgspec.Struct):
    """What things cost on this machine: first guesses, then what was measured."""

    read_s_per_token: float = 2e-3
    copy_s_per_byte: float = 5e-10
    bytes_per_token: float = 0.0


class Kept(msgspec.Struct, eq=False):
    """Tokens whose KV is in a slot, or saved in host memory (slot None) under its key.

    owner is a preempted job, which must be able to go on from here. rank is what eviction goes by.
    """

    key: int
    scope: str
    tokens: list[int]
    slot: int | None
    owner: JobId | None = None
    uses: int = 1
    rank: float = 0.0


class PrefixCache:
    """Kept prefixes, evicted by GreedyDual: rank = floor + uses * tokens, and the floor rises with each eviction.

    shares: whether jobs may use what others left. room_bytes bounds what is saved in host memory.
    can_trim: whether the model's memory can forget a tail; if not, only whole entries can be gone on from.
    """

    def __init__(self, *, shares: bool, can_trim: bool, room_bytes: int) -> None:
        self.shares = shares
        self.can_trim = can_trim
        self.costs = Costs()
        self._room_bytes = room_bytes
        self._entries: dict[int, Kept] = {}
        self._floor = 0.0
        self._next_key = 0
        self._kept, self._gone_on = float(FIRST_ODDS), 1.0

    def __iter__(self) -> Iterator[Kept]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def at(self, slot: int) -> Kept | None:
        """What an idle slot holds."""
        return next((kept for kept in self if kept.slot == slot), None)

    def keep(self, slot: int, tokens: list[int], *, scope: str, owner: JobId | None = None) -> list[Kept]:
        """Remember a slot that its job has left; the entries that it makes superfluous, which are forgotten."""
        kept = Kept(self._next_key, scope, tokens, slot, owner)
        self._next_key += 1
        if owner is None:
            self._kept += 1
        covered = [old for old in self if self._is_covered(old, kept)]
        for old in covered:
            kept.uses = max(kept.uses, old.uses)
            del self._entries[old.key]
        self._entries[kept.key] = kept
        self._rank(kept)
        return covered

    def find(self, tokens: list[int], *, scope: str, job_id: JobId) -> tuple[Kept | None, int]:
        """The entry that gives this job most of its tokens, and how many; the last token is never taken from it."""
        best: Kept | None = None
        most, usable = 0, len(tokens) - 1
        # of two that give the same, the one that is in a slot costs less
        in_slots = [kept for kept in self if kept.slot is not None]
        for kept in itertools.chain(in_slots, (kept for kept in self if kept.slot is None)):
            if kept.owner != job_id and not (self.shares and kept.scope == scope):
                continue
            if most >= min(len(kept.tokens), usable) or kept.tokens[most] != tokens[most]:
                continue
            shared = min(common_prefix(kept.tokens, tokens), usable)
            if shared > most and (self.can_trim or shared == len(kept.tokens)):
                best, most = kept, shared
        if best is None or (most < MIN_SHARED and best.owner != job_id):
            return None, 0
        return best, most

    def use(self, kept: Kept) -> None:
        """Count a hit."""
        kept.uses += 1
        self._rank(kept)

    def use_up(self, kept: Kept) -> None:
        """Forget an entry because its job, or another that says all that it says, goes on from it."""
        if kept.owner is None:
            self._gone_on += 1
        self.drop(kept)
        if self._kept > REMEMBERED:
            self._kept, self._gone_on = self._kept / 2, self._gone_on / 2

    def drop(self, kept: Kept) -> None:
        """Forget an entry."""
        self._entries.pop(kept.key, None)

    def worst(self, among: Iterable[Kept]) -> Kept | None:
        """The one to lose first: of those that nobody waits for, the lowest rank."""
        return min(among, key=lambda kept: (kept.owner is not None, kept.rank), default=None)

    def evict(self, kept: Kept, *, neighbours: Iterable[list[int]] = ()) -> bool:
        """Take an entry out of its slot: True when it is worth saving to host memory first, else it is forgotten.
        neighbours: the tokens of jobs in its scope, which hold some of it too."""
        self._floor = max(self._floor, kept.rank)
        if self._is_worth_saving(kept, neighbours):
            kept.slot = None
            return True
        self.drop(kept)
        return False

    def overflow(self, spared: Kept | None) -> list[Kept]:
        """Forget saved entries, worst first, until what is saved fits; those that were forgotten. One that is about to
        be used is spared."""
        lost = []
        saved = [kept for kept in self if kept.slot is None and kept is not spared]
        while sum(map(self._bytes, saved)) > self._room_bytes or len(saved) > MAX_SAVED:
            worst = self.worst(saved)
            assert worst is not None
            saved.remove(worst)
            self.drop(worst)
            lost.append(worst)
        return lost

    def disown(self, job_id: JobId) -> list[Kept]:
        """The job does not come back: what it left becomes a prefix like any other. What nobody may use is forgotten,
        and returned."""
        left = [kept for kept in self if kept.owner == job_id]
        for kept in left:
            kept.owner = None
            if not self.shares:
                self.drop(kept)
        return [] if self.shares else left

    def _bytes(self, kept: Kept) -> float:
        return len(kept.tokens) * self.costs.bytes_per_token

    def _rank(self, kept: Kept) -> None:
        kept.rank = self._floor + kept.uses * len(kept.tokens)

    def _is_covered(self, old: Kept, new: Kept) -> bool:
        is_same = old.scope == new.scope and old.owner is None and self.can_trim
        size = len(old.tokens)
        return is_same and new.tokens[size - 1 : size] == old.tokens[-1:] and new.tokens[:size] == old.tokens

    def _is_worth_saving(self, kept: Kept, neighbours: Iterable[list[int]]) -> bool:
        """Whether reading it again would cost more, by what is known, than saving and loading it."""
        size = self._bytes(kept)
        if not 0 < size <= self._room_bytes:
            return False
        others = [*neighbours, *(o.tokens for o in self if o is not kept and o.scope == kept.scope)]
        unique = len(kept.tokens) - _longest_prefix(kept.tokens, others)
        odds = 1.0 if kept.owner is not None else self._gone_on / self._kept
        return odds * unique * self.costs.read_s_per_token > 2 * size * self.costs.copy_s_per_byte


def _longest_prefix(tokens: list[int], others: Iterable[list[int]]) -> int:
    """How much of these tokens is the beginning of one of the others, looking closely only at what could be more."""
    most = 0
    for other in others:
        if most < min(len(tokens), len(other)) and other[most] == tokens[most]:
            most = max(most, common_prefix(tokens, other))
    return most


def common_prefix(one: list[int], other: list[int]) -> int:
    """How many tokens two lists have in common at their beginning; compares slices, so that C does the work."""
    low, high = 0, min(len(one), len(other))
    if high == 0 or one[0] != other[0]:
        return 0
    if one[:high] == other[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
