"""The law of the slots, on a KV that is only lists: what they order is what sequences and kept prefixes need."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.job import JobId
from core.runtimes.batch import Batch, Pace
from core.runtimes.kv_slots import Copy, Discard, Forget, KvSlots, Restore, Save, Trim
from core.runtimes.prefix_cache import PrefixCache
from core.runtimes.sequence import Sequence

SYSTEM = list(range(100, 140))
OPS = st.lists(
    st.tuples(
        st.sampled_from(("add", "add", "add", "step", "step", "step", "end", "preempt", "resume", "allow", "evict")),
        st.integers(0, 9),
        st.integers(0, 60),
    ),
    max_size=60,
)


class ListKv:
    """Slots and saved states as lists of tokens; trimming fails where the memory cannot."""

    def __init__(self, slots: int, *, can_trim: bool) -> None:
        self.slots: list[list[int]] = [[] for _ in range(slots)]
        self.saved: dict[int, list[int]] = {}
        self.can_trim = can_trim

    def obey(self, slots: KvSlots) -> None:
        for order in slots.take_orders():
            match order:
                case Forget(slot):
                    self.slots[slot] = []
                case Trim(slot, tokens):
                    self.slots[slot] = self.cut(self.slots[slot], tokens)
                case Copy(source, target, tokens):
                    assert source != target
                    self.slots[target] = self.cut(self.slots[source], tokens)
                case Save(slot, key):
                    self.saved[key] = list(self.slots[slot])
                case Restore(key, slot, tokens):
                    self.slots[slot] = self.cut(self.saved[key], tokens)
                case Discard(key):
                    del self.saved[key]

    def cut(self, held: list[int], tokens: int) -> list[int]:
        assert len(held) >= tokens
        assert self.can_trim or len(held) == tokens
        return held[:tokens]


def check(batch: Batch, kv: ListKv) -> None:
    for sequence in batch.running:
        if sequence.leader is None:
            assert kv.slots[sequence.slot][: sequence.fed] == sequence.tokens[: sequence.fed]
            assert len(kv.slots[sequence.slot]) == sequence.fed
    for kept in batch.slots.cache:
        held = kv.saved[kept.key] if kept.slot is None else kv.slots[kept.slot]
        assert held[: len(kept.tokens)] == kept.tokens
    assert set(kv.saved) == {kept.key for kept in batch.slots.cache if kept.slot is None}


def step(batch: Batch, kv: ListKv) -> None:
    batch.seat()
    batch.slots.follow()
    batch.tidy()
    kv.obey(batch.slots)
    check(batch, kv)
    rows = batch.next_rows()
    kv.obey(batch.slots)
    for row in rows:
        sequence = row.sequence
        assert len(kv.slots[sequence.slot]) == row.start
        kv.slots[sequence.slot] += sequence.tokens[row.start : row.start + row.count]
        sequence.advance(row.start + row.count)
        if row.draws:
            sequence.tokens.append(len(sequence.tokens) % 7)
            if sequence.completion_tokens >= sequence.limit:
                batch.remove(sequence)


def prompt(which: int, length: int) -> list[int]:
    """Beginnings that many share, in two lengths, then something of its own."""
    begin = (SYSTEM, SYSTEM[:20], [which] * 20, [])[which % 4]
    return [*begin, *range(length), which]


@st.composite
def batches(draw: st.DrawFn) -> tuple[Batch, ListKv]:
    cache = PrefixCache(shares=draw(st.booleans()), can_trim=draw(st.booleans()), room_bytes=12_000)
    cache.costs.bytes_per_token = 50
    cache.costs.read_s_per_token = draw(st.sampled_from((0.0, 1.0)))
    count = draw(st.integers(1, 4))
    batch = Batch(KvSlots(count, cache, is_split=draw(st.booleans())), Pace(chunk=16))
    return batch, ListKv(count, can_trim=cache.can_trim)


@settings(max_examples=400, deadline=None)
@given(ops=OPS, made=batches())
def test_every_slot_holds_what_its_sequence_believes_and_every_kept_prefix_is_there(
    ops: list[tuple[str, int, int]], made: tuple[Batch, ListKv]
) -> None:
    batch, kv = made
    there: list[Sequence] = []
    for number, (what, which, amount) in enumerate(ops):
        there = [s for s in there if s.job_id in batch]
        someone = there[which % len(there)] if there else None
        match what, someone:
            case "add", _:
                allowance = amount % 8 if which < 3 else None
                scope = "ab"[which % 2]
                there.append(
                    Sequence(JobId(str(number)), prompt(which, amount), limit=12, allowance=allowance, scope=scope)
                )
                batch.add(there[-1])
            case "step", _:
                for _ in range(amount % 9):
                    step(batch, kv)
            case "evict", _:
                batch.slots.evict()
            case "end", Sequence():
                batch.remove(someone)
            case "preempt", Sequence():
                batch.preempt(someone)
            case "resume", Sequence():
                batch.resume(someone)
            case "allow", Sequence():
                someone.allowance = 12
            case _:
                pass
    for sequence in there:
        sequence.allowance = None
        if sequence.job_id in batch:
            batch.resume(sequence)
    for _ in range(400):
        if not batch.can_step:
            break
        step(batch, kv)
    assert len(batch) == 0
    kv.obey(batch.slots)
    check(batch, kv)


def test_a_new_conversation_does_not_cost_the_one_before_when_there_is_room() -> None:
    cache = PrefixCache(shares=True, can_trim=True, room_bytes=0)
    batch = Batch(KvSlots(3, cache, is_split=True), Pace(chunk=999))
    kv = ListKv(3, can_trim=True)
    cached = []
    for turn in range(3):
        for speaker in range(3):
            tokens = [*SYSTEM, *[50 + speaker] * (40 * (turn + 1))]
            sequence = Sequence(JobId(f"{turn}-{speaker}"), tokens, limit=2, scope="one")
            batch.add(sequence)
            step(batch, kv)
            step(batch, kv)
            cached.append(sequence.cached)
    assert cached[:3] == [0, 40, 40]
    assert cached[3:] == [80, 80, 80, 120, 120, 120]


def test_what_others_may_still_want_is_copied_to_an_empty_slot() -> None:
    cache = PrefixCache(shares=True, can_trim=True, room_bytes=0)
    slots = KvSlots(3, cache, is_split=True)
    cache.keep(2, [*SYSTEM, *[1] * 20], scope="")
    sequence = Sequence(JobId("a"), [*SYSTEM, 2, 3], limit=1)
    slots.seat(sequence)
    assert sequence.slot == 0 and sequence.fed == len(SYSTEM)
    assert slots.take_orders() == [Copy(2, 0, len(SYSTEM))]


@pytest.mark.parametrize("is_split", [True, False])
def test_a_job_sits_down_where_its_prefix_ends(is_split: bool) -> None:
    cache = PrefixCache(shares=True, can_trim=True, room_bytes=0)
    slots = KvSlots(3, cache, is_split=is_split)
    cache.keep(2, [*SYSTEM, 1], scope="")
    sequence = Sequence(JobId("a"), [*SYSTEM, 1, 3], limit=1)
    slots.seat(sequence)
    assert sequence.slot == 2
    assert slots.take_orders() == [Trim(2, len(SYSTEM) + 1)]


def test_in_a_split_kv_jobs_sit_side_by_side_even_when_their_prefix_lies_elsewhere() -> None:
    cache = PrefixCache(shares=True, can_trim=True, room_bytes=0)
    slots = KvSlots(5, cache, is_split=True)
    cache.keep(4, [*SYSTEM, 1], scope="")
    first, second = Sequence(JobId("a"), [8, 9], limit=1), Sequence(JobId("b"), [*SYSTEM, 1, 3], limit=1)
    slots.seat(first)
    slots.seat(second)
    assert (first.slot, second.slot) == (0, 1)
    assert slots.take_orders() == [Forget(0), Copy(4, 1, len(SYSTEM) + 1), Forget(4)]


def test_two_who_could_wait_for_each_other_do_not() -> None:
    cache = PrefixCache(shares=True, can_trim=True, room_bytes=0)
    batch = Batch(KvSlots(3, cache, is_split=True), Pace(chunk=16))
    kv = ListKv(3, can_trim=True)
    asked = zip("abc", (0, 40, 40), strict=True)
    first, second, third = (Sequence(JobId(name), prompt(0, length), limit=2) for name, length in asked)
    for sequence in (first, second, third):
        batch.add(sequence)
    step(batch, kv)
    assert second.leader is third.leader is first
    batch.preempt(second)
    batch.preempt(first)
    batch.resume(second)
    batch.resume(first)
    for _ in range(60):
        step(batch, kv)
    assert len(batch) == 0
