"""Laws of trying other plans: only when nobody wants anything, ended at once, and what did not fit stays known."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from core import events as e
from core.demand import Asked
from core.device import Device, DeviceKind, Machine, Reading
from core.explorer import Explorer, ExplorerPorts, Trial, died, is_idle
from core.job import JobId, JobTerms, Price, PriorityClass
from core.journal import Journal
from core.memory import device_key
from core.metamodel.fit import Fit
from core.model_card import ModelCard, ModelVariant
from core.node_state import NodeState, Presence
from core.plan import Plan
from core.store import Store
from core.worker import messages as w
from core.worker.process import WorkerDied

GIB = 1 << 30
GPU = Device("CUDA0", "A GPU", DeviceKind.GPU, "CUDA", 8 * GIB, 7 * GIB, pci_id="0000:01:00.0", driver="550")
CARD = ModelCard(
    model="m", title="M", architecture="llama", parameters=7_000_000_000, layers=32, hidden=4096, feed_forward=11008,
    heads=32, kv_heads=32, kv_width=8192, vocabulary=32_000, context_tokens=4096, source_sha256="00",
    source_quantization="F16", variants=(ModelVariant("Q4_K_M", 4_300_000_000, "00", "m.gguf"),),
)  # fmt: skip
PLAN = Plan("m", "llama.cpp", "Q8_0", slots=4, slot_context_tokens=2048, gpu_layers=33, device_id="CUDA0")
TERMS = JobTerms(JobId("j"), "m", PriorityClass.BATCH)
TRIED = w.PlanTried(PLAN, 900.0, {1: 50.0, 4: 120.0})


def trial(quantization: str = "Q4_K_M") -> Trial:
    return Trial(msgspec.structs.replace(PLAN, quantization=quantization), CARD, GPU, Path("m.gguf"))


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    store = Store(tmp_path / "s.db")
    found = Journal(store)
    found.announce(e.MachineFound(1.0, Machine((GPU,), 4, 16 * GIB, "llama.cpp 1")))
    yield found
    store.close()


class Owner:
    """What the explorer is handed: trials, the owner's rules, and a child that answers or hangs."""

    def __init__(self, *trials: Trial, answer: w.WorkerReport | None = TRIED) -> None:
        self.trials, self.answer, self.is_welcome = trials, answer, True
        self.tried: list[str] = []
        self.cancelled = 0
        self.rounds = 0

    @property
    def ports(self) -> ExplorerPorts:
        return ExplorerPorts(self._trials, lambda: self.is_welcome, self._attempt, self._explored)

    async def _explored(self) -> None:
        self.rounds += 1

    async def _trials(self) -> tuple[Trial, ...]:
        return self.trials

    async def _attempt(self, command: w.TryPlan) -> w.WorkerReport:
        self.tried.append(command.plan.quantization)
        try:
            if self.answer is None:
                await trio.sleep_forever()
        finally:
            self.cancelled += self.answer is None
        assert self.answer is not None
        return self.answer


def exploring(journal: Journal, owner: Owner) -> Explorer:
    return Explorer(journal, owner.ports, limit_c=90)


async def test_what_was_tried_becomes_rows(journal: Journal) -> None:
    owner = Owner(trial(), trial("Q6_K"))
    assert await exploring(journal, owner).explore()
    assert owner.tried == ["Q4_K_M", "Q6_K"]
    assert {(c.run.batch, c.run.decode_tokens_per_s, c.decodes) for c in journal.state.speeds.cells} == {
        (1.0, 50.0, 2), (4.0, 120.0, 2)
    }  # fmt: skip


async def interrupted(journal: Journal, interrupt: Callable[[], Awaitable[None]]) -> Owner:
    owner = Owner(trial(), trial("Q6_K"), answer=None)
    results: list[bool] = []

    async def explore() -> None:
        results.append(await exploring(journal, owner).explore())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(explore)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await interrupt()
    assert results == [False]
    return owner


async def test_a_price_that_is_asked_for_ends_the_trial_at_once(journal: Journal, autojump_clock: MockClock) -> None:
    async def ask() -> None:
        journal.announce(e.JobAsked(5.0, JobId("j"), 10, 10))

    before = trio.current_time()
    owner = await interrupted(journal, ask)
    assert owner.tried == ["Q4_K_M"] and owner.cancelled == 1
    assert trio.current_time() - before < 0.5


async def test_a_job_or_a_pause_ends_it_too(journal: Journal, autojump_clock: MockClock) -> None:
    for event in (e.JobQueued(5.0, TERMS, Price(1, 1), "p", "q"), e.WorkPaused(5.0, "Paused by you.")):

        async def happen(event: e.Event = event) -> None:
            await journal.record(event)

        assert (await interrupted(journal, happen)).cancelled == 1
        journal._state = msgspec.structs.replace(journal.state, jobs={})


async def test_the_owners_rules_end_it(journal: Journal, autojump_clock: MockClock) -> None:
    owner = Owner(trial(), answer=None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exploring(journal, owner).explore)
        await trio.testing.wait_all_tasks_blocked(0.01)
        owner.is_welcome = False
    assert owner.cancelled == 1


async def test_what_ran_out_of_memory_is_known_with_what_was_free(journal: Journal) -> None:
    await exploring(journal, Owner(trial(), answer=w.Fault(w.FaultKind.OUT_OF_MEMORY, "No room.", 3 * GIB))).explore()
    (failure,) = journal.state.memory.failures
    assert (failure.device, failure.free_bytes) == (device_key(GPU), 3 * GIB)
    fit = Fit(journal.state.memory)
    assert not fit.fits(failure.needed_bytes, msgspec.structs.replace(GPU, free_bytes=3 * GIB))
    assert fit.fits(failure.needed_bytes, msgspec.structs.replace(GPU, free_bytes=20 * GIB))


def test_a_child_that_the_kernel_kills_or_that_aborts_ran_out_of_memory_and_a_hang_did_not() -> None:
    for code, reason, kind in (
        (-9, "it was killed by SIGKILL", w.FaultKind.OUT_OF_MEMORY),
        (-6, "it was killed by SIGABRT", w.FaultKind.OUT_OF_MEMORY),
        (-11, "it was killed by SIGSEGV", w.FaultKind.INTERNAL),
        (-9, "it said nothing for 120 s", w.FaultKind.INTERNAL),
        (1, "it ended with code 1", w.FaultKind.INTERNAL),
    ):
        assert died(WorkerDied(reason, code)).kind is kind


async def test_a_trial_that_fails_otherwise_leaves_nothing(journal: Journal) -> None:
    owner = Owner(trial(), answer=w.Fault(w.FaultKind.INTERNAL, "The worker died."))
    assert await exploring(journal, owner).explore()
    assert journal.state.speeds.cells == () and journal.state.memory.failures == ()


async def test_a_whole_round_is_told_once_and_the_next_waits_for_hours(
    journal: Journal, autojump_clock: MockClock
) -> None:
    owner = Owner(trial())
    journal._state = msgspec.structs.replace(journal.state, presence=Presence.JOINED, idle_since=1.0)
    with trio.move_on_after(3600):
        await exploring(journal, owner).run()
    assert owner.rounds == 1 and owner.tried == ["Q4_K_M"]


def test_a_machine_is_idle_after_a_while_without_jobs_and_without_questions() -> None:
    state = NodeState(presence=Presence.JOINED, idle_since=100.0)
    assert is_idle(state, now=700.0, for_s=600.0) and not is_idle(state, now=699.0, for_s=600.0)
    assert not is_idle(NodeState(idle_since=100.0), now=9e9, for_s=600.0)
    asked = NodeState(
        presence=Presence.JOINED, idle_since=100.0, demand=state.demand.with_quote(Asked(JobId("j"), 500.0, 10, 10))
    )
    assert not is_idle(asked, now=1000.0, for_s=600.0) and is_idle(asked, now=1100.0, for_s=600.0)


def test_a_machine_that_its_owner_works_on_is_not_idle() -> None:
    for load, is_so in ((3.0, True), (80.0, False), (None, True)):
        state = NodeState(presence=Presence.JOINED, idle_since=100.0, reading=Reading(1.0, load_percent=load))
        assert is_idle(state, now=9e9, for_s=600.0) is is_so
