"""The engine's life: what a stay in the network leaves behind when it ends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from core import commands as c
from core import engine as room
from core import events as e
from core.engine import Engine
from core.job import JobId, JobState, JobTerms, Price, PriorityClass
from core.journal import Journal
from core.preparation import CannotServe
from core.settings import Settings
from core.store import Store
from core.trouble import trouble_of

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
        def cards(self) -> tuple[()]:
            return ()

        async def add(self, path: Path, **_: Any) -> None:
            raise OSError(28, "No space left on device")

    parts: Any = SimpleNamespace(journal=Journal(Store(tmp_path / "s.db")), settlement=None)
    models: Any = FullDisk()
    engine = Engine(parts, models=models, settings=Settings())
    reply = await engine.execute(c.AddModel("x.gguf"))
    assert reply == c.Refused("The system refused it: No space left on device.")


class Gone:
    """A preparation that has no model to serve any more, and a settlement with nothing to do."""

    def card(self, model: str) -> None:
        raise CannotServe("There is no model lost here.")

    async def machine(self) -> None:
        await trio.sleep_forever()

    async def run(self) -> None:
        await trio.sleep_forever()

    def cards(self) -> tuple[()]:
        return ()


def engine_without_model(journal: Journal, settings: Settings) -> Engine:
    gone: Any = Gone()
    parts: Any = SimpleNamespace(journal=journal, settlement=gone, preparation=gone)
    return Engine(parts, models=gone, settings=settings)


async def test_an_engine_whose_model_is_gone_still_starts_and_says_so(tmp_path: Path) -> None:
    journal = Journal(Store(tmp_path / "s.db"))
    await journal.record(e.JoinRequested(1.0))
    engine = engine_without_model(journal, Settings())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert journal.state.trouble["network"] == "There is no model lost here."
        assert not journal.state.is_join_wanted
        nursery.cancel_scope.cancel()


async def test_an_engine_that_was_started_to_join_ends_with_the_reason(tmp_path: Path) -> None:
    engine = engine_without_model(Journal(Store(tmp_path / "s.db")), Settings(join_at_start=True))
    with pytest.raises(ExceptionGroup) as raised:
        await engine.run()
    assert str(trouble_of(raised.value, known=())) == "There is no model lost here."


async def test_a_benchmark_can_be_stopped_and_another_begun_after_it(tmp_path: Path) -> None:
    class Slow:
        def __init__(self) -> None:
            self.begun = 0

        async def measure_machine(self, model: str) -> None:
            self.begun += 1
            await trio.sleep_forever()

    slow, gone = Slow(), Gone()
    parts: Any = SimpleNamespace(journal=Journal(Store(tmp_path / "s.db")), settlement=gone, preparation=slow)
    engine = Engine(parts, models=gone, settings=Settings())  # type: ignore[arg-type]
    replies: list[c.Reply] = []

    async def measure() -> None:
        replies.append(await engine.execute(c.MeasureMachine()))

    for turn in (1, 2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(measure)
            await trio.testing.wait_all_tasks_blocked()
            assert await engine.execute(c.MeasureMachine()) == c.Refused("A benchmark is already running.")
            assert await engine.execute(c.StopModelWork()) == c.Done("The benchmark is being stopped.")
        assert replies == [c.Refused("The benchmark was stopped.")] * turn
    assert slow.begun == 2
