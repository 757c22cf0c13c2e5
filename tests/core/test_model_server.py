"""Laws of a worker under supervision: every end of it is told once, and it comes back, later and later if it must."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from core import events as e
from core.job import ChatMessage, JobId, Sampling
from core.journal import Journal
from core.model_server import CRASHES, LoadFailed, ModelServer, Supervision
from core.plan import Choice, Estimate, Plan
from core.store import Store
from core.worker import messages as w
from core.worker import process
from core.worker.process import WorkerDied
from tests.models import write_tiny_gguf

pytestmark = pytest.mark.e2e
PLAN = Plan(model="tiny", runtime="llama.cpp", quantization="F16", slots=2, slot_context_tokens=256, threads=1)
QUICK = Supervision(first_retry_s=0.01, longest_retry_s=0.02, steady_after_s=30.0, told_after=3, hang_s=20.0)
# A child that loads at once and then behaves as its word says.
FAKE = """
import os, sys, time
from core.framing import encode_frame
from core.worker.messages import Fault, FaultKind, Loaded
def send(report): os.write(1, encode_frame(report))
os.read(0, 65536)
if sys.argv[1] == "broken":
    send(Fault(FaultKind.INTERNAL, "The GPU is being reset."))
send(Loaded(0.0, 1, 256, "fake"))
while os.read(0, 65536):
    if sys.argv[1] == "fault":
        send(Fault(FaultKind.INTERNAL, "The GPU has fallen off the bus."))
    if sys.argv[1] == "garbage":
        os.write(1, b"\\x05[[[[[")
"""


class Desk:
    """Remembers what a worker said."""

    def __init__(self) -> None:
        self.heard: list[w.WorkerReport | WorkerDied] = []
        self._woken = trio.Event()

    async def handle(self, report: w.WorkerReport | WorkerDied) -> None:
        self.heard.append(report)
        self._woken.set()

    async def hears(self, kind: type, times: int = 1) -> list[object]:
        while len(found := [report for report in self.heard if isinstance(report, kind)]) < times:
            await self._woken.wait()
            self._woken = trio.Event()
        return list(found)


class Bench:
    """A server on a real journal, and what it has told its desk."""

    def __init__(self, folder: Path, path: Path, *, supervision: Supervision, plan: Plan = PLAN) -> None:
        self.journal = Journal(Store(folder / "s.db"))
        self.desk = Desk()
        choice = Choice(plan, Estimate(100.0, 100.0, 90.0, 110.0, 0.1, 1, True), "only one")
        log = folder / "worker.log"
        self.server = ModelServer(self.journal, choice, path=path, log=log, supervision=supervision)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                await nursery.start(self.server.run, self.desk.handle)
                yield
                nursery.cancel_scope.cancel()

    def signal(self, number: int) -> None:
        assert self.server._worker is not None
        os.kill(self.server._worker.pid, number)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


def job(name: str) -> w.Generate:
    return w.Generate(JobId(name), (ChatMessage("user", "hello the world"),), Sampling(max_tokens=100))


def faked(monkeypatch: pytest.MonkeyPatch, behaviour: str) -> None:
    monkeypatch.setattr(process, "child_command", lambda: (sys.executable, "-c", FAKE, behaviour))


def test_each_death_in_a_row_doubles_the_pause_up_to_the_longest() -> None:
    pauses = [Supervision().retry_s(failures) for failures in (1, 2, 3, 7, 8, 10_000)]
    assert pauses == [0.5, 1.0, 2.0, 32.0, 60.0, 60.0]


async def test_a_killed_worker_is_one_event_and_comes_back(tmp_path: Path, model: Path) -> None:
    bench = Bench(tmp_path, model, supervision=QUICK)
    async with bench.serving():
        assert bench.journal.state.worker is not None
        assert bench.journal.state.worker.sandbox.startswith("Confined: ")
        bench.signal(signal.SIGKILL)
        assert await bench.desk.hears(WorkerDied) == [WorkerDied("it was killed by SIGKILL", -9)]
        await bench.desk.hears(w.Loaded, times=2)
        await bench.server.send(job("after"))
        await bench.desk.hears(w.Completed)
        assert "worker" not in bench.journal.state.trouble


async def test_a_hung_worker_is_one_event_and_comes_back(tmp_path: Path, model: Path) -> None:
    bench = Bench(tmp_path, model, supervision=msgspec.structs.replace(QUICK, hang_s=6.0))
    async with bench.serving():
        bench.signal(signal.SIGSTOP)
        await bench.server.send(job("stuck"))
        assert await bench.desk.hears(WorkerDied) == [WorkerDied("it said nothing for 6 s", -9)]
        await bench.desk.hears(w.Loaded, times=2)


async def test_too_little_memory_is_a_typed_failure_of_the_load(tmp_path: Path, model: Path) -> None:
    plan = msgspec.structs.replace(PLAN, slots=8, slot_context_tokens=1 << 20)
    bench = Bench(tmp_path, model, supervision=msgspec.structs.replace(QUICK, memory_bytes=1 << 30), plan=plan)
    with trio.fail_after(30), pytest.raises(LoadFailed) as caught:
        await bench.server.run(bench.desk.handle)
    assert caught.value.fault.kind is w.FaultKind.OUT_OF_MEMORY
    assert bench.desk.heard == []


async def test_a_load_that_fails_for_no_reason_of_its_own_is_tried_again(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, model, supervision=QUICK)
    async with bench.serving():
        faked(monkeypatch, "broken")
        bench.signal(signal.SIGKILL)
        died = await bench.desk.hears(WorkerDied, times=2)
        assert died[1] == WorkerDied("it said: The GPU is being reset", None)
        monkeypatch.undo()
        await bench.desk.hears(w.Loaded, times=2)


async def test_a_first_load_that_breaks_the_worker_is_a_failure_to_load(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "child_command", lambda: (sys.executable, "-c", "import os; os.abort()"))
    bench = Bench(tmp_path, model, supervision=QUICK)
    with trio.fail_after(30), pytest.raises(LoadFailed, match="while it loaded the model: it was killed by SIGABRT"):
        await bench.server.run(bench.desk.handle)


async def test_a_fault_in_service_ends_the_worker_with_its_own_sentence(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked(monkeypatch, "fault")
    bench = Bench(tmp_path, model, supervision=QUICK)
    async with bench.serving():
        await bench.server.send(job("a"))
        died = (await bench.desk.hears(WorkerDied))[0]
    assert isinstance(died, WorkerDied) and died.reason == "it said: The GPU has fallen off the bus"


async def test_a_worker_that_speaks_nonsense_is_ended(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked(monkeypatch, "garbage")
    bench = Bench(tmp_path, model, supervision=QUICK)
    async with bench.serving():
        await bench.server.send(job("a"))
        died = (await bench.desk.hears(WorkerDied))[0]
    assert isinstance(died, WorkerDied) and died.reason == "it sent something that is no report"


async def test_deaths_in_a_row_are_trouble_until_service_is_steady(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked(monkeypatch, "fault")
    bench = Bench(tmp_path, model, supervision=msgspec.structs.replace(QUICK, steady_after_s=1.0))
    async with bench.serving():
        for number in range(1, 4):
            await bench.desk.hears(w.Loaded, times=number)
            assert CRASHES not in bench.journal.state.trouble
            await bench.server.send(job(f"j{number}"))
            await bench.desk.hears(WorkerDied, times=number)
        assert "stopped 3 times in a row" in bench.journal.state.trouble[CRASHES]
        with bench.journal.watch() as watcher:
            async for numbered in watcher.events:
                if isinstance(numbered.event, e.TroubleFound):
                    break
        assert CRASHES not in bench.journal.state.trouble


async def test_a_count_is_not_waited_for_when_the_worker_dies(tmp_path: Path, model: Path) -> None:
    bench = Bench(tmp_path, model, supervision=QUICK)
    async with bench.serving():
        bench.signal(signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_killed_soon, bench)
            with trio.fail_after(10):
                assert await bench.server.count(JobId("c"), job("c").messages, deadline_s=20.0) is None


async def _killed_soon(bench: Bench) -> None:
    await trio.testing.wait_all_tasks_blocked()
    bench.signal(signal.SIGKILL)


async def test_why_a_prompt_cannot_be_counted_reaches_its_requester(tmp_path: Path, model: Path) -> None:
    bench = Bench(tmp_path, model, supervision=QUICK)
    async with bench.serving():
        long = (ChatMessage("user", "x" * 200_000),)
        found = await bench.server.count(JobId("c"), long, deadline_s=20.0)
    assert isinstance(found, str) and "200000 bytes" in found
