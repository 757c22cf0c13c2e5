"""Laws of gathering chunks."""

from __future__ import annotations

from core.job import FinishReason, JobId, Timing, Usage
from core.worker.messages import Chunk, Chunks, Completed, Started
from core.worker.outbox import HOLD_S, Outbox

A, B = JobId("a"), JobId("b")


def _say(job: JobId, text: str, tokens: int) -> list[Chunks]:
    return [Chunks((Chunk(job, text, tokens),))]


def test_the_first_text_of_a_job_goes_at_once() -> None:
    outbox = Outbox()
    assert outbox.put(_say(A, "x", 1), 0.0) == _say(A, "x", 1)
    assert outbox.put(_say(A, "y", 2), 0.001) == []
    assert outbox.put(_say(B, "z", 1), 0.002) == [Chunks((Chunk(A, "y", 2), Chunk(B, "z", 1)))]


def test_later_text_is_joined_and_goes_within_the_hold_time() -> None:
    outbox = Outbox()
    outbox.put(_say(A, "x", 1), 0.0)
    outbox.put(_say(A, "y", 2), 0.001)
    outbox.put(_say(A, "z", 3), 0.002)
    assert outbox.put([], 0.001 + HOLD_S) == _say(A, "yz", 3)
    assert outbox.flush() == []


def test_an_end_takes_the_text_before_it_along() -> None:
    outbox = Outbox()
    outbox.put(_say(A, "x", 1), 0.0)
    end = Completed(A, FinishReason.STOP, Usage(3, 2), Timing())
    assert outbox.put([*_say(A, "y", 2), end], 0.001) == [*_say(A, "y", 2), end]


def test_a_job_that_starts_and_speaks_in_one_step_starts_first() -> None:
    outbox = Outbox()
    outbox.put(_say(A, "x", 1), 0.0)
    outbox.put(_say(A, "y", 2), 0.001)
    told = outbox.put([Started(B, 3), *_say(B, "z", 1)], 0.002)
    assert told == [Started(B, 3), Chunks((Chunk(A, "y", 2), Chunk(B, "z", 1)))]
