"""Laws of a stay in the network: a better plan is changed over to when nobody is served, and never for nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from core import membership as room
from core.explorer import ExplorerPorts
from core.journal import Journal
from core.membership import DRAIN_TIMEOUT_S, Joined, Membership, MembershipParts
from core.model_server import LoadFailed
from core.plan import Choice, Estimate, Plan
from core.preparation import Prepared
from core.settings import Settings
from core.store import Store
from core.worker.messages import Fault, FaultKind

PLAN = Plan("demo", "llama.cpp", "F16", slots=2, slot_context_tokens=512)
CHOICE = Choice(PLAN, Estimate(1000.0, 80.0, 60.0, 100.0, 0.2, 1, True), "because")


class Preparations:
    """Prepares the same plan each time; says as often as it is told that it is outdone."""

    def __init__(self, outdone: int) -> None:
        self.outdone, self.prepared = outdone, 0

    async def prepare(self, model: str) -> Prepared:
        self.prepared += 1
        return Prepared(SimpleNamespace(title="Demo", source_sha256="00"), CHOICE, Path("demo.gguf"))  # type: ignore[arg-type]

    async def learn(self, prepared: Prepared) -> None:
        await trio.lowlevel.checkpoint()

    async def trials(self, prepared: Prepared) -> tuple[()]:
        return ()

    async def is_outdone(self, prepared: Prepared) -> bool:
        self.outdone -= 1
        return self.outdone >= 0


class Swarming:
    """A swarm that is joined at once."""

    async def run(self, desk: object, offer: object, *, task_status: trio.TaskStatus[Joined]) -> None:
        task_status.started(Joined("peer", ()))
        await trio.sleep_forever()

    async def withdraw(self) -> None:
        await trio.lowlevel.checkpoint()

    async def settle(self) -> None:
        await trio.lowlevel.checkpoint()

    def peers(self) -> int:
        return 0


class Forever:
    """Stands in for whatever runs until it is cancelled."""

    live = 0
    tokens_made = 0
    faults: list[Fault] = []

    def __init__(self, *_: object, **__: object) -> None:
        self.scheduler = SimpleNamespace(speed=None)

    async def run(self, *_: object, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        if self.faults:
            raise LoadFailed(self.faults.pop())
        task_status.started()
        await trio.sleep_forever()

    async def watch_stalls(self) -> None:
        await trio.sleep_forever()

    async def handle(self, report: object) -> None:
        await trio.lowlevel.checkpoint()


class OneRound:
    """An explorer whose first round ends at once."""

    def __init__(self, journal: Journal, ports: ExplorerPorts, **_: object) -> None:
        self._ports = ports

    async def run(self) -> None:
        await self._ports.explored()
        await trio.sleep_forever()


@pytest.fixture
def staying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Preparations], Membership]:
    for name in ("ModelServer", "JobDesk", "Learning"):
        monkeypatch.setattr(room, name, Forever)
    monkeypatch.setattr(room, "Explorer", OneRound)
    monkeypatch.setattr(Forever, "faults", [])
    terms: Any = SimpleNamespace(settings=Settings(), worker=None)
    settlement: Any = SimpleNamespace(channel=None, fresh_channel=None)

    def make(preparations: Preparations) -> Membership:
        journal = Journal(Store(tmp_path / "s.db"))
        parts = MembershipParts(journal, preparations, Swarming(), terms, settlement, Path("log"))  # type: ignore[arg-type]
        return Membership(parts, "demo")

    return make


Staying = Callable[[Preparations], Membership]


async def test_a_better_plan_is_changed_over_to_and_then_kept(staying: Staying, autojump_clock: MockClock) -> None:
    preparations = Preparations(outdone=1)
    membership = staying(preparations)
    with trio.move_on_after(600):
        await membership.run()
    assert preparations.prepared == 2
    assert membership._refusal() != "This peer is changing over to another plan."


async def test_while_jobs_run_nothing_new_is_taken_and_nothing_is_changed(
    staying: Staying, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(Forever, "live", 1)
    preparations = Preparations(outdone=1)
    membership = staying(preparations)
    with trio.move_on_after(60):
        await membership.run()
    assert preparations.prepared == 1
    assert membership._refusal() == "This peer is changing over to another plan."


async def test_a_job_longer_than_patience_is_not_cut_for_a_better_plan(
    staying: Staying, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(Forever, "live", 1)
    preparations = Preparations(outdone=1)
    membership = staying(preparations)
    with trio.move_on_after(2 * DRAIN_TIMEOUT_S):
        await membership.run()
    assert preparations.prepared == 1
    assert membership._refusal() != "This peer is changing over to another plan."


async def test_what_does_not_load_still_ends_the_stay(staying: Staying, autojump_clock: MockClock) -> None:
    monkeyed = Fault(FaultKind.BAD_FILE, "This is no model.")
    membership = staying(Preparations(outdone=0))
    Forever.faults.append(monkeyed)
    with trio.fail_after(60), pytest.raises(LoadFailed, match="This is no model"):
        await membership.run()
