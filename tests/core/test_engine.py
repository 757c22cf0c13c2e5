"""The engine's life: what a stay in the network leaves behind when it ends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from core import commands as c
from core import engine as room
from core import events as e
from core.engine import Engine
from core.job import JobId, JobState, JobTerms, Price, PriorityClass
from core.journal import Journal
from core.settings import Settings
from core.store import Store

QUEUED = e.JobQueued(1.0, JobTerms(JobId("j1"), "demo", PriorityClass.BATCH), Price(1, 2), "0xp", "peer")


async def test_a_stay_that_ends_leaves_no_job_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(Store(tmp_path / "s.db"))

    class ShortStay:
        def __init__(self, parts: Any, model: str) -> None:
            self.desk = None

        async def run(self) -> None:
            await journal.record(QUEUED)

    monkeypatch.setattr(room, "Membership", ShortStay)
    parts: Any = SimpleNamespace(journal=journal, settlement=None)
    models: Any = None
    engine = Engine(parts, models=models, settings=Settings())
    engine._join.set()
    with journal.watch() as watcher:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine._stay_in_network)
            with trio.fail_after(5):
                while not isinstance((await watcher.events.receive()).event, e.JobEnded):
                    continue
            nursery.cancel_scope.cancel()
    assert journal.state.ended[0].state is JobState.FAILED
    assert "left the network" in journal.state.ended[0].reason


async def test_what_the_system_refuses_is_an_answer_and_not_the_end(tmp_path: Path) -> None:
    class FullDisk:
        async def add_model(self, path: Path, *, name: str) -> None:
            raise OSError(28, "No space left on device")

    parts: Any = SimpleNamespace(journal=Journal(Store(tmp_path / "s.db")), settlement=None, preparation=FullDisk())
    models: Any = None
    engine = Engine(parts, models=models, settings=Settings())
    reply = await engine.execute(c.AddModel("x.gguf"))
    assert reply == c.Refused("The system refused it: No space left on device.")
