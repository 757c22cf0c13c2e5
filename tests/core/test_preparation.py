"""Laws of preparing: the plan fits by the library's own count, failures stay known, and an idle GPU is explained."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from core import events as e
from core import preparation as preparations
from core.device import Benchmark, Device, DeviceKind, Machine
from core.journal import Journal
from core.memory import device_key
from core.model_card import ModelCard, ModelVariant
from core.plan import Plan
from core.preparation import GPU_TROUBLE, PIN_TROUBLE, CannotServe, Preparation
from core.settings import Settings
from core.store import Store
from core.worker import messages as w

GIB = 1 << 30
PRIOR = Path(__file__).parents[2] / "assets" / "metamodel" / "prior.json"
CPU = Device("CPU", "A CPU", DeviceKind.CPU, "CPU", 64 * GIB, 48 * GIB)
GPU = Device("CUDA0", "NVIDIA RTX", DeviceKind.GPU, "CUDA", 8 * GIB, 7 * GIB, pci_id="0000:c1:00.0", driver="1")
CARD = ModelCard(
    model="eight-b", title="Eight B", architecture="llama", parameters=8_030_000_000, layers=32, hidden=4096,
    feed_forward=14336, heads=32, kv_heads=8, kv_width=2048, vocabulary=128_256, context_tokens=8192,
    source_sha256="00", source_quantization="F16", variants=(ModelVariant("F16", 16_070_000_000, "00", "a.gguf"),),
)  # fmt: skip


class OneModel:
    """A store with one model, of which every quantization is there."""

    folder = Path("models")

    def cards(self) -> tuple[ModelCard, ...]:
        return (CARD,)

    async def ensure_variant(self, model: str, quantization: str, *, on_progress: object = None) -> ModelVariant:
        return CARD.variants[0]

    def path_of(self, model: str, quantization: str) -> Path:
        return Path(f"{model}-{quantization}.gguf")


class Counter:
    """The child that counts a plan's memory: a GPU's share is what the plan's arithmetic says times factor."""

    def __init__(self, answer: w.WorkerReport) -> None:
        self.answer = answer
        self.asked: list[w.MeasurePlan] = []

    async def __call__(self, command: w.MeasurePlan, *, deadline_s: float) -> w.WorkerReport:
        self.asked.append(command)
        return self.answer


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    store = Store(tmp_path / "starling.db")
    yield Journal(store)
    store.close()


def preparing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, *, gpu: Device = GPU, counter: Counter | None = None
) -> Preparation:
    machine = Machine((gpu, CPU), 8, 64 * GIB, "llama.cpp")
    measured = Benchmark(1.0, gpu, "llama.cpp", 400.0, 30.0, "eight-b", "F16", 16_070_000_000, 2000.0, 20.0, {1: 20.0})

    async def found() -> Machine:
        return machine

    async def benchmark(*_: object, **__: object) -> Benchmark:
        return measured

    monkeypatch.setattr(preparations, "find_machine", found)
    monkeypatch.setattr(preparations, "run_benchmark", benchmark)
    monkeypatch.setattr(preparations, "run_once", counter or Counter(w.Fault(w.FaultKind.BAD_FILE, "No file.")))
    return Preparation(journal, OneModel(), prior=PRIOR, settings=Settings())  # type: ignore[arg-type]


async def test_a_plan_that_the_library_counts_as_too_large_gives_way_to_a_smaller_one(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await preparing(journal, monkeypatch).prepare("eight-b")
    counter = Counter(w.PlanMeasured({"CUDA0": 8 * GIB}))
    second = await preparing(journal, monkeypatch, counter=counter).prepare("eight-b")
    assert counter.asked[0].plan == first.choice.plan
    assert second.choice.plan != first.choice.plan
    assert journal.state.memory.loads[0].device == device_key(GPU)


async def test_a_plan_that_was_counted_is_not_counted_again(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(w.PlanMeasured({"CUDA0": 5 * GIB}))
    first = await preparing(journal, monkeypatch, counter=counter).prepare("eight-b")
    second = await preparing(journal, monkeypatch, counter=counter).prepare("eight-b")
    assert first == second and len(counter.asked) == 1


async def test_a_plan_that_makes_the_library_abort_is_never_loaded(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(w.Fault(w.FaultKind.INTERNAL, "The worker died: it was killed by SIGABRT."))
    await preparing(journal, monkeypatch, counter=counter).prepare("eight-b")
    plans = [asked.plan for asked in counter.asked]
    assert len(plans) > 1 and len(set(plans)) == len(plans)
    assert journal.state.memory.failures[0].device == device_key(GPU)


async def test_a_count_that_came_too_late_says_nothing_of_memory(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(w.Fault(w.FaultKind.TIMED_OUT, "The worker did not finish within 60 s."))
    await preparing(journal, monkeypatch, counter=counter).prepare("eight-b")
    assert len(counter.asked) == 1
    assert journal.state.memory.failures == ()


async def test_another_wish_of_the_owner_is_another_choice(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await preparing(journal, monkeypatch).prepare("eight-b")
    thrifty = preparing(journal, monkeypatch)
    thrifty._settings = msgspec.structs.replace(thrifty._settings, max_power_w=60)
    second = await thrifty.prepare("eight-b")
    assert second.choice.basis != first.choice.basis
    assert (await thrifty.prepare("eight-b")).choice == second.choice


async def test_what_ran_out_of_memory_is_not_prepared_again(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await preparing(journal, monkeypatch).prepare("eight-b")
    await preparing(journal, monkeypatch).forget(first, free_bytes=7 * GIB)
    second = await preparing(journal, monkeypatch).prepare("eight-b")
    assert second.choice.plan != first.choice.plan


async def test_what_the_worker_counted_is_kept(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    preparation = preparing(journal, monkeypatch)
    prepared = await preparation.prepare("eight-b")
    plan = prepared.choice.plan
    taken = {"CUDA0": 5 * GIB, "CPU": GIB}
    journal.announce(e.WorkerStarted(1.0, plan.model, plan.quantization, 2.0, 6 * GIB, taken))
    await preparation.learn(prepared)
    await preparation.learn(prepared)
    loads = journal.state.memory.loads
    assert [load.device for load in loads] == [device_key(GPU)]
    assert loads[0].measured_bytes > 5 * GIB


async def test_a_gpu_too_small_is_trouble_that_ends_when_it_is_not(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = msgspec.structs.replace(GPU, free_bytes=GIB // 4)
    await preparing(journal, monkeypatch, gpu=small).prepare("eight-b")
    assert "does not fit on your NVIDIA RTX" in journal.state.trouble[GPU_TROUBLE]
    await preparing(journal, monkeypatch, gpu=msgspec.structs.replace(GPU, free_bytes=24 * GIB)).prepare("eight-b")
    assert GPU_TROUBLE not in journal.state.trouble


def kept_plan(quantization: str = "Q4_0", *, slots: int = 1) -> Plan:
    return Plan("eight-b", "llama.cpp", quantization, slots, 2048, gpu_layers=33, device_id="CUDA0")


async def test_a_kept_plan_is_served_over_restarts_until_it_is_let_go(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = await preparing(journal, monkeypatch).prepare("eight-b")
    await preparing(journal, monkeypatch).pin(kept_plan())
    for _ in range(2):
        prepared = await preparing(journal, monkeypatch).prepare("eight-b")
        assert prepared.choice.plan == kept_plan()
        assert prepared.choice.reason.startswith("You keep Q4_0 with 1 slot: about")
    await preparing(journal, monkeypatch).unpin("eight-b")
    assert (await preparing(journal, monkeypatch).prepare("eight-b")).choice.plan == chosen.choice.plan


async def test_a_kept_plan_that_no_longer_fits_gives_way_with_a_notice_and_comes_back(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await preparing(journal, monkeypatch).pin(kept_plan())
    small = msgspec.structs.replace(GPU, free_bytes=2 * GIB)
    prepared = await preparing(journal, monkeypatch, gpu=small).prepare("eight-b")
    assert prepared.choice.plan != kept_plan()
    notice = journal.state.trouble[PIN_TROUBLE]
    assert "Q4_0 with 1 slot, is not served now: it needs" in notice and "--unpin" in notice
    assert (await preparing(journal, monkeypatch).prepare("eight-b")).choice.plan == kept_plan()
    assert PIN_TROUBLE not in journal.state.trouble


async def test_a_plan_that_cannot_be_served_is_not_kept(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = msgspec.structs.replace(kept_plan(), device_id="CUDA7")
    for plan, said in ((kept_plan("F16"), "needs"), (elsewhere, "not in this computer"), (kept_plan("IQ1_S"), "made")):
        with pytest.raises(CannotServe, match=said):
            await preparing(journal, monkeypatch).pin(plan)
    assert journal.state.pins == {}


async def test_a_plan_that_is_outdone_by_what_was_measured_is_chosen_anew(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation = preparing(journal, monkeypatch, gpu=msgspec.structs.replace(GPU, free_bytes=30 * GIB))
    prepared = await preparation.prepare("eight-b")
    assert not await preparation.is_outdone(prepared)
    worse = msgspec.structs.replace(prepared.choice.plan, quantization="F16", slots=1)
    kept = msgspec.structs.replace(prepared.choice, plan=worse)
    await journal.record(e.PlanChosen(2.0, kept))
    assert (await preparation.prepare("eight-b")).choice == kept
    assert await preparation.is_outdone(msgspec.structs.replace(prepared, choice=kept))
    assert (await preparation.prepare("eight-b")).choice.plan == prepared.choice.plan


async def test_what_the_loaded_model_takes_is_free_for_the_plan_that_is_kept(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = msgspec.structs.replace(GPU, free_bytes=GIB)
    with pytest.raises(CannotServe, match="it needs"):
        await preparing(journal, monkeypatch, gpu=taken).pin(kept_plan())
    journal.announce(e.WorkerStarted(1.0, "eight-b", "Q4_K_M", 2.0, 6 * GIB, {"CUDA0": 6 * GIB}))
    await preparing(journal, monkeypatch, gpu=taken).pin(kept_plan())
    assert journal.state.pins == {"eight-b": kept_plan()}
