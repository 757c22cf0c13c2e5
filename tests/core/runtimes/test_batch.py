"""Laws of continuous batching, without a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.job import JobId
from core.runtimes.batch import Batch, Pace
from core.runtimes.kv_slots import Copy, Forget, KvSlots
from core.runtimes.prefix_cache import PrefixCache
from core.runtimes.sequence import Sequence


def _batch(slots: int, chunk: int, *, pace: Pace | None = None) -> Batch:
    cache = PrefixCache(shares=False, can_trim=True, room_bytes=0)
    return Batch(KvSlots(slots, cache, is_split=True), pace or Pace(chunk=chunk))


def _sequence(name: str, prompt: int = 4, *, allowance: int | None = None) -> Sequence:
    return Sequence(JobId(name), list(range(prompt)), limit=100, allowance=allowance)


def _step(batch: Batch) -> list[tuple[str, int, bool]]:
    batch.seat()
    rows = batch.next_rows()
    for row in rows:
        row.sequence.fed += row.count
        if row.draws:
            row.sequence.tokens.append(0)
    return [(row.sequence.job_id, row.count, row.draws) for row in rows]


def test_a_long_prompt_is_read_in_chunks_beside_its_decoding_neighbours() -> None:
    batch = _batch(2, 4)
    batch.add(_sequence("a", 2))
    assert _step(batch) == [("a", 2, True)]
    batch.add(_sequence("b", 9))
    assert _step(batch) == [("a", 1, True), ("b", 4, False)]
    assert _step(batch) == [("a", 1, True), ("b", 4, False)]
    assert _step(batch) == [("a", 1, True), ("b", 1, True)]


def test_a_joiner_takes_the_lowest_free_slot_and_waits_for_one() -> None:
    batch = _batch(2, 9)
    first, second, third = (_sequence(name) for name in "abc")
    for sequence in (first, second, third):
        batch.add(sequence)
    assert batch.seat() == [first, second]
    batch.remove(first)
    assert batch.seat() == [third]
    assert third.slot == 0


def test_a_sequence_stops_at_its_allowance_and_goes_on_when_it_is_raised() -> None:
    batch = _batch(1, 9)
    sequence = _sequence("a", allowance=2)
    batch.add(sequence)
    assert [_step(batch) for _ in range(3)] == [[("a", 4, True)], [("a", 1, True)], []]
    assert not batch.can_step
    assert sequence.slot == 0
    sequence.allowance = 3
    assert _step(batch) == [("a", 1, True)]


def test_with_nothing_allowed_the_prompt_is_read_but_for_the_token_that_would_draw() -> None:
    batch = _batch(1, 3)
    sequence = _sequence("a", 5, allowance=0)
    batch.add(sequence)
    assert [_step(batch) for _ in range(3)] == [[("a", 3, False)], [("a", 1, False)], []]
    sequence.allowance = 1
    assert _step(batch) == [("a", 1, True)]


def test_the_highest_slot_moves_into_a_gap_only_when_nobody_waits() -> None:
    batch = _batch(3, 9)
    sequences = [_sequence(name) for name in "abcd"]
    for sequence in sequences:
        batch.add(sequence)
    batch.seat()
    batch.remove(sequences[1])
    batch.tidy()
    assert sequences[2].slot == 2
    batch.remove(sequences[3])
    batch.slots.take_orders()
    batch.tidy()
    assert batch.slots.take_orders() == [Copy(2, 1, 0), Forget(2)]
    assert sequences[2].slot == 1
    batch.tidy()
    assert batch.slots.take_orders() == []


def test_a_sequence_that_waits_long_for_its_allowance_makes_way() -> None:
    batch = _batch(4, 9)
    first, paused, last = _sequence("a"), _sequence("b", allowance=1), _sequence("c")
    for sequence in (first, paused, last):
        batch.add(sequence)
    for _ in range(30):
        _step(batch)
        batch.tidy()
    assert (first.slot, last.slot, paused.slot) == (0, 1, 3)
    paused.allowance = 9
    batch.tidy()
    assert (first.slot, last.slot, paused.slot) == (0, 1, 2)


def test_without_continuous_batching_nobody_joins_until_all_have_ended() -> None:
    batch = _batch(2, 9, pace=Pace(chunk=9, joins=False))
    sequences = [_sequence(name) for name in "abcd"]
    for sequence in sequences[:2]:
        batch.add(sequence)
    _step(batch)
    batch.add(sequences[2])
    batch.remove(sequences[0])
    assert _step(batch) == [("b", 1, True)]
    batch.remove(sequences[1])
    assert batch.can_step
    assert _step(batch) == [("c", 4, True)]


def test_without_chunks_prompts_are_read_whole_and_one_that_does_not_fit_waits() -> None:
    batch = _batch(3, 10, pace=Pace(chunk=10, is_whole=True))
    for name, prompt in (("a", 6), ("b", 5), ("c", 4)):
        batch.add(_sequence(name, prompt))
    assert _step(batch) == [("a", 6, True), ("c", 4, True)]
    assert _step(batch) == [("a", 1, True), ("b", 5, True), ("c", 1, True)]


def test_in_a_split_kv_a_short_prompt_is_not_cut_to_fit_beside_others() -> None:
    batch = _batch(3, 10)
    for name, prompt in (("a", 14), ("b", 7), ("c", 5)):
        batch.add(_sequence(name, prompt))
    assert _step(batch) == [("a", 10, False)]
    assert _step(batch) == [("a", 4, True), ("c", 5, True)]
    assert _step(batch) == [("a", 1, True), ("b", 7, True), ("c", 1, True)]


def test_a_preempted_sequence_gives_up_its_slot_and_comes_back_before_newcomers() -> None:
    batch = _batch(1, 9)
    first, second, third = (_sequence(name) for name in "abc")
    for sequence in (first, second, third):
        batch.add(sequence)
    batch.seat()
    assert batch.preempt(first) and not batch.preempt(first)
    assert batch.seat() == [second]
    batch.resume(first)
    batch.remove(second)
    assert batch.seat() == [] and first.slot == 0


def test_one_preempted_in_the_queue_is_not_seated_until_it_is_resumed() -> None:
    batch = _batch(1, 9)
    sequence = _sequence("a")
    batch.add(sequence)
    assert batch.preempt(sequence)
    assert batch.seat() == [] and not batch.can_step
    batch.resume(sequence)
    batch.resume(sequence)
    assert batch.seat() == [sequence] and batch.seat() == []
    batch.remove(sequence)
    assert len(batch) == 0


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 6)), min_size=1, max_size=8), st.integers(1, 8))
def test_rows_rise_by_slot_within_the_chunk_and_everyone_finishes(jobs: list[tuple[int, int]], chunk: int) -> None:
    batch = _batch(3, chunk)
    for number, (prompt, limit) in enumerate(jobs):
        batch.add(Sequence(JobId(str(number)), [1] * prompt, limit=limit, allowance=None))
    for _ in range(2000):
        batch.seat()
        rows = batch.next_rows()
        slots = [row.sequence.slot for row in rows]
        assert slots == sorted(set(slots))
        assert sum(row.count for row in rows if row.sequence.is_reading) <= chunk
        for row in rows:
            row.sequence.fed += row.count
            if row.draws:
                row.sequence.tokens.append(0)
                if row.sequence.completion_tokens >= row.sequence.limit:
                    batch.remove(row.sequence)
        if not batch.can_step:
            break
    assert len(batch) == 0


@pytest.mark.parametrize(("prompt", "neighbours", "runs"), [
    (168, 0, [104, 64]),
    (168, 1, [103, 65]),
    (300, 0, [128, 108, 64]),
    (136, 0, [128, 8]),
    (192, 0, [128, 64]),
    (200, 0, [128, 72]),
])  # fmt: skip
def test_the_last_run_of_a_long_prompt_fills_a_tile_unless_it_is_very_short(
    prompt: int, neighbours: int, runs: list[int]
) -> None:
    batch = _batch(2, 128)
    for number in range(neighbours):
        batch.add(_sequence(f"n{number}", 1))
        batch.seat()
        _step(batch)
    batch.add(_sequence("long", prompt))
    batch.seat()
    read = []
    while not read or sum(read) < prompt:
        read += [count for name, count, _ in _step(batch) if name == "long"]
    assert read == runs
