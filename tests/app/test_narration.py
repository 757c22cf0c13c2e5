"""A headless engine tells its owner what matters, and not each job."""

from __future__ import annotations

from pathlib import Path

import trio

from app.narration import line_of, narrate
from core import events as e
from core.journal import Journal
from core.store import Store


def progressed(at: float, text: str, *, fraction: float = 0.5) -> e.WorkProgressed:
    return e.WorkProgressed(at, "Joining", fraction, text)


async def test_progress_is_told_once_and_at_most_every_second(tmp_path: Path) -> None:
    told: list[str] = []
    journal = Journal(Store(tmp_path / "s.db"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(narrate, journal, told.append)
        await trio.testing.wait_all_tasks_blocked()
        for at, text in ((10.0, "a"), (10.5, "b"), (12.0, "a"), (12.0, "c"), (13.0, "c")):
            journal.announce(progressed(at, text))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert told == ["a (50%)", "c (50%)"]


def test_work_that_ended_and_trouble_that_is_over_have_no_line() -> None:
    assert line_of(progressed(1.0, "", fraction=1.0)) == ""
    assert line_of(e.TroubleFound(1.0, "chain", "")) == ""
    assert line_of(e.TroubleFound(1.0, "chain", "The chain does not answer.")) == "The chain does not answer."


def test_a_worker_that_is_not_confined_in_all_is_told_with_the_reason() -> None:
    started = e.WorkerStarted(1.0, "m", "Q4_K_M", 0.1, 1, sandbox="Confined: memory. Not confined: files: no Landlock.")
    assert line_of(started).endswith("Not confined: files: no Landlock.")
    assert line_of(e.WorkerStarted(1.0, "m", "Q4_K_M", 0.1, 1, sandbox="Confined: memory, files.")) == ""
