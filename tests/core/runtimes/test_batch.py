"""Laws of continuous batching, without a model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.job import JobId
from core.runtimes.batch import Batch, Move, Sequence


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
    batch = Batch(slots=2, chunk=4)
    batch.add(_sequence("a", 2))
    assert _step(batch) == [("a", 2, True)]
    batch.add(_sequence("b", 9))
    assert _step(batch) == [("a", 1, True), ("b", 4, False)]
    assert _step(batch) == [("a", 1, True), ("b", 4, False)]
    assert _step(batch) == [("a", 1, True), ("b", 1, True)]


def test_a_joiner_takes_the_lowest_free_slot_and_waits_for_one() -> None:
    batch = Batch(slots=2, chunk=9)
    first, second, third = (_sequence(name) for name in "abc")
    for sequence in (first, second, third):
        batch.add(sequence)
    assert batch.seat() == [first, second]
    batch.remove(first)
    assert batch.seat() == [third]
    assert third.slot == 0


def test_a_sequence_stops_at_its_allowance_and_goes_on_when_it_is_raised() -> None:
    batch = Batch(slots=1, chunk=9)
    sequence = _sequence("a", allowance=2)
    batch.add(sequence)
    assert [_step(batch) for _ in range(3)] == [[("a", 4, True)], [("a", 1, True)], []]
    assert not batch.can_step
    assert sequence.slot == 0
    sequence.allowance = 3
    assert _step(batch) == [("a", 1, True)]


def test_with_nothing_allowed_the_prompt_is_read_but_for_the_token_that_would_draw() -> None:
    batch = Batch(slots=1, chunk=3)
    sequence = _sequence("a", 5, allowance=0)
    batch.add(sequence)
    assert [_step(batch) for _ in range(3)] == [[("a", 3, False)], [("a", 1, False)], []]
    sequence.allowance = 1
    assert _step(batch) == [("a", 1, True)]


def test_the_highest_slot_moves_into_a_gap_only_when_nobody_waits() -> None:
    batch = Batch(slots=3, chunk=9)
    sequences = [_sequence(name) for name in "abcd"]
    for sequence in sequences:
        batch.add(sequence)
    batch.seat()
    batch.remove(sequences[0])
    assert batch.close_gap() is None
    batch.remove(sequences[3])
    assert batch.close_gap() == Move(source=2, target=0)
    assert sequences[2].slot == 0
    assert batch.close_gap() is None


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 6)), min_size=1, max_size=8), st.integers(1, 8))
def test_rows_rise_by_slot_within_the_chunk_and_everyone_finishes(jobs: list[tuple[int, int]], chunk: int) -> None:
    batch = Batch(slots=3, chunk=chunk)
    for number, (prompt, limit) in enumerate(jobs):
        batch.add(Sequence(JobId(str(number)), [1] * prompt, limit=limit, allowance=None))
    for _ in range(2000):
        batch.seat()
        rows = batch.next_rows()
        slots = [row.sequence.slot for row in rows]
        assert slots == sorted(set(slots))
        assert sum(row.count for row in rows if row.sequence.is_prefilling) <= chunk
        for row in rows:
            row.sequence.fed += row.count
            if row.draws:
                row.sequence.tokens.append(0)
                if row.sequence.completion_tokens >= row.sequence.limit:
                    batch.remove(row.sequence)
        if not batch.can_step:
            break
    assert len(batch) == 0
