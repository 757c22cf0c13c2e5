"""Who sits in which slot, and what must be done to the slots' KV so that nothing is read twice.

Pure: orders are collected and carried out by kv_store. Split KV has a stream for each slot, and only consecutive slots
share a pass over the weights: jobs sit side by side. Unified KV is one pool: copying between slots costs nothing.
"""

from __future__ import annotations

import msgspec

from core.runtimes.prefix_cache import MIN_SHARED, Kept, PrefixCache, common_prefix
from core.runtimes.sequence import Sequence

# So many more tokens of another's unread prompt are worth waiting for.
MIN_AWAITED = 32


class Forget(msgspec.Struct, frozen=True):
    """Empty a slot."""

    slot: int


class Trim(msgspec.Struct, frozen=True):
    """Forget everything in a slot but its first tokens."""

    slot: int
    tokens: int


class Copy(msgspec.Struct, frozen=True):
    """Let a slot hold exactly the first tokens of another."""

    source: int
    target: int
    tokens: int


class Save(msgspec.Struct, frozen=True):
    """Copy a slot to host memory, under this key."""

    slot: int
    key: int


class Restore(msgspec.Struct, frozen=True):
    """Let a slot hold exactly the first tokens of what was saved under this key."""

    key: int
    slot: int
    tokens: int


class Discard(msgspec.Struct, frozen=True):
    """Forget what was saved under this key."""

    key: int


KvOrder = Forget | Trim | Copy | Save | Restore | Discard


class _Source(msgspec.Struct, frozen=True):
    """Where tokens come from: a slot, live or idle, or what was saved of a kept entry (slot None).

    is_used_up: whether the entry has nothing more to give that would be worth keeping.
    """

    kept: Kept | None
    slot: int | None
    tokens: int
    is_used_up: bool = False


class KvSlots:
    """The slots. live: the sequence in each of them, or None; what idle ones still hold is the cache's."""

    def __init__(self, count: int, cache: PrefixCache, *, is_split: bool) -> None:
        self.live: list[Sequence | None] = [None] * count
        self.cache = cache
        self.is_split = is_split
        self._orders: list[KvOrder] = []

    def take_orders(self) -> list[KvOrder]:
        """What is to be done to the KV, in this order, before the next step."""
        orders, self._orders = self._orders, []
        return orders

    @property
    def has_free(self) -> bool:
        """Whether a slot has no job."""
        return None in self.live

    def seat(self, sequence: Sequence) -> None:
        """Give a sequence a free slot, and the KV of what it begins with: now, or when its leader has read it."""
        slot = self._place(sequence)
        self.live[slot] = sequence
        sequence.slot = slot
        sequence.is_preempted = False
        self.fill(sequence)

    def fill(self, sequence: Sequence) -> None:
        """Put the longest known beginning of its tokens into its slot, or let it wait for one who reads a longer."""
        sequence.leader, sequence.shared = self._leader(sequence)
        if sequence.leader is not None:
            return
        source = self._source(sequence)
        here = self.cache.at(sequence.slot)
        if here is None or (here is source.kept and source.is_used_up):
            self._take(source, sequence.slot)
        elif self.is_split and source.is_used_up and source.slot is not None:
            self._swap(here, source)
        else:
            self._displace(here, source)
            self._take(source, sequence.slot)
        sequence.advance(source.tokens)
        if not sequence.has_begun:
            sequence.cached = source.tokens
            sequence.has_begun = True

    def lost(self, slot: int) -> None:
        """An order for this slot has failed: it is empty."""
        sequence, kept = self.live[slot], self.cache.at(slot)
        if kept is not None:
            self.cache.drop(kept)
        elif sequence is not None and sequence.leader is None:
            sequence.lose_kv()

    def follow(self) -> list[Sequence]:
        """Fill those whose leader has read far enough, or has left; who has begun so."""
        ready = [s for s in self.live if s is not None and is_led_no_more(s)]
        for sequence in ready:
            self.fill(sequence)
        return [sequence for sequence in ready if sequence.leader is None]

    def leave(self, sequence: Sequence, *, comes_back: bool = False) -> None:
        """Free a sequence's slot; what it holds is kept for itself, if it comes back, and for others."""
        slot, sequence.slot = sequence.slot, -1
        self.live[slot] = None
        if sequence.leader is not None:
            sequence.leader = None
            return
        tokens = sequence.tokens[: sequence.fed]
        sequence.fed = 0
        if not tokens or not (comes_back or (self.cache.shares and len(tokens) >= MIN_SHARED)):
            self._orders.append(Forget(slot))
            return
        owner = sequence.job_id if comes_back else None
        self._clear_away(self.cache.keep(slot, tokens, scope=sequence.scope, owner=owner))

    def disown(self, sequence: Sequence) -> None:
        """A preempted sequence has ended without coming back."""
        self._clear_away(self.cache.disown(sequence.job_id))

    def close_gap(self) -> None:
        """Move the highest sequence that steps into a hole among the others: with split KV, a hole costs a pass a
        step."""
        stepping = [s.slot for s in self.live if s is not None and s.due() > 0]
        low, top = min(stepping, default=0), max(stepping, default=0)
        hole = next((slot for slot in range(low, top) if self.live[slot] is None), None)
        if hole is not None and self.is_split:
            self._move(top, hole)

    def set_aside(self, sequence: Sequence) -> None:
        """Move one that has waited long for its allowance from among those that step, if there is a free slot beside
        them."""
        stepping = [s.slot for s in self.live if s is not None and s.due() > 0]
        low, top = min(stepping, default=0), max(stepping, default=0)
        outside = [slot for slot, s in enumerate(self.live) if s is None and not low <= slot <= top]
        if outside and low < sequence.slot < top and self.is_split:
            self._move(sequence.slot, outside[-1])

    def trim(self, sequence: Sequence, tokens: int) -> None:
        """Let a sequence's slot hold its first tokens only."""
        self._orders.append(Trim(sequence.slot, tokens))

    def evict(self) -> bool:
        """Give up the idle slot's KV that is worth least; False when there is none."""
        worst = self.cache.worst(kept for kept in self.cache if kept.slot is not None)
        if worst is None or worst.slot is None:
            return False
        slot = worst.slot
        self._evict(worst)
        self._orders.append(Forget(slot))
        return True

    def forget_all(self) -> None:
        """The KV of every slot is gone."""
        self._orders.clear()
        for kept in [kept for kept in self.cache if kept.slot is not None]:
            self.cache.drop(kept)

    def _place(self, sequence: Sequence) -> int:
        """The free slot that costs least: where its beginning lies already, else an empty one, else that of the entry
        of least worth. In a split KV beside those that step."""
        free = [slot for slot, occupant in enumerate(self.live) if occupant is None]
        spots = self._beside_others(free) if self.is_split else free
        source = self._source(sequence)
        if source.is_used_up and source.slot in spots:
            return source.slot
        kept = {k.slot: k for k in self.cache if k.slot in spots}
        empty = next((slot for slot in spots if slot not in kept), None)
        if empty is not None:
            return empty
        worst = self.cache.worst([k for k in kept.values() if k is not source.kept] or kept.values())
        return spots[0] if worst is None or worst.slot is None else worst.slot

    def _beside_others(self, free: list[int]) -> list[int]:
        """The free slots that keep the stepping ones consecutive: a hole among them, or one at an end."""
        stepping = [s.slot for s in self.live if s is not None and (s.due() > 0 or s.leader is not None)]
        if not stepping:
            return free
        low, high = min(stepping), max(stepping)
        holes = [slot for slot in free if low < slot < high]
        return holes[:1] or [slot for slot in free if slot in (low - 1, high + 1)] or free

    def _source(self, sequence: Sequence) -> _Source:
        """Where the most of its tokens are: with a neighbour, in an idle slot, or saved."""
        kept, tokens = self.cache.find(sequence.tokens, scope=sequence.scope, job_id=sequence.job_id)
        best = _Source(None, None, 0)
        if kept is not None:
            is_used_up = len(kept.tokens) - tokens < MIN_SHARED and kept.owner in (None, sequence.job_id)
            best = _Source(kept, kept.slot, tokens, is_used_up)
        for other in self.live if self.cache.shares else ():
            if other is None or other is sequence or other.scope != sequence.scope:
                continue
            shared = min(common_prefix(other.tokens, sequence.tokens), other.fed, len(sequence.tokens) - 1)
            is_usable = shared >= MIN_SHARED and (self.cache.can_trim or shared == other.fed)
            if is_usable and shared > best.tokens:
                best = _Source(None, other.slot, shared)
        return best

    def _take(self, source: _Source, target: int) -> None:
        """Fill a slot; an entry that is used to its end has nothing more to give."""
        kept, tokens = source.kept, source.tokens
        if tokens == 0:
            self._orders.append(Forget(target))
        elif source.slot == target:
            self._orders.append(Trim(target, tokens))
        elif source.slot is not None:
            self._orders.append(Copy(source.slot, target, tokens))
        elif kept is not None:
            self._orders.append(Restore(kept.key, target, tokens))
        if kept is None:
            return
        if not source.is_used_up:
            self.cache.use(kept)
            return
        self.cache.use_up(kept)
        if source.slot is None:
            self._orders.append(Discard(kept.key))
        elif source.slot != target:
            self._orders.append(Forget(source.slot))

    def _swap(self, here: Kept, source: _Source) -> None:
        """What a slot holds changes places with the entry that is used up in it."""
        assert here.slot is not None and source.slot is not None and source.kept is not None
        self._orders += [
            Save(here.slot, here.key),
            Copy(source.slot, here.slot, source.tokens),
            Restore(here.key, source.slot, len(here.tokens)),
            Discard(here.key),
        ]
        here.slot = source.slot
        self.cache.use_up(source.kept)

    def _leader(self, sequence: Sequence) -> tuple[Sequence | None, int]:
        """Who is about to read what this one begins with, and how much of it; never one who waits himself: two who
        wait for each other would wait for ever."""
        if not (self.cache.shares and self.cache.can_trim):
            return None, 0
        leader, most = None, self._source(sequence).tokens + MIN_AWAITED - 1
        for other in self.live:
            if other is None or other is sequence or other.leader is not None or other.scope != sequence.scope:
                continue
            if not other.is_reading:
                continue
            shared = min(common_prefix(other.tokens, sequence.tokens), len(other.tokens) - 1, len(sequence.tokens) - 1)
            if shared > most:
                leader, most = other, shared
        return leader, most if leader is not None else 0

    def _displace(self, here: Kept, source: _Source) -> None:
        """A slot is about to be overwritten: take what it holds to an idle slot of less worth, or give it up."""
        idle = [slot for slot, s in enumerate(self.live) if s is None and slot not in (here.slot, source.slot)]
        spot = next((slot for slot in idle if self.cache.at(slot) is None), None)
        if spot is None:
            worst = self.cache.worst(kept for kept in self.cache if kept.slot in idle)
            if worst is not None and self.cache.worst((here, worst)) is worst:
                spot = worst.slot
                self._evict(worst, spared=source.kept)
        if spot is None or here.slot is None or not self.is_split:
            self._evict(here, spared=source.kept)
            return
        self._orders.append(Copy(here.slot, spot, len(here.tokens)))
        here.slot = spot

    def _move(self, source: int, target: int) -> None:
        """Take a sequence, and what it has in its slot, over to a free slot."""
        sequence = self.live[source]
        assert sequence is not None
        self.live[target], self.live[source] = sequence, None
        sequence.slot = target
        if sequence.leader is not None:
            return
        here = self.cache.at(target)
        if here is not None:
            self._displace(here, _Source(None, source, 0))
        self._orders += [Copy(source, target, sequence.fed), Forget(source)]

    def _evict(self, kept: Kept, *, spared: Kept | None = None) -> None:
        slot = kept.slot
        neighbours = [s.tokens for s in self.live if s is not None and s.scope == kept.scope]
        if slot is not None and self.cache.evict(kept, neighbours=neighbours):
            self._orders.append(Save(slot, kept.key))
            self._orders += [Discard(lost.key) for lost in self.cache.overflow(spared)]

    def _clear_away(self, gone: list[Kept]) -> None:
        for kept in gone:
            self._orders.append(Discard(kept.key) if kept.slot is None else Forget(kept.slot))


def is_led_no_more(sequence: Sequence) -> bool:
    """Whether a sequence waits for a leader that has read far enough, or has lost its slot or waits himself."""
    leader = sequence.leader
    return leader is not None and (leader.slot < 0 or leader.leader is not None or leader.fed >= sequence.shared)
