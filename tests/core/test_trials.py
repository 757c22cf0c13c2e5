"""Laws of trials found with the landed prior: what is on disk, fits beside what serves, and may be better."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from core.device import Benchmark, Device, DeviceKind, Machine, ModelShape
from core.job import QualityClass
from core.metamodel.evidence import Experience
from core.metamodel.goal import Goal
from core.metamodel.meta_model import MetaModel
from core.metamodel.own_measurements import place_of
from core.model_card import ModelCard, ModelVariant
from core.plan import Choice, Plan
from core.speed_record import MeasuredRun, SpeedRecord, shape_of_model
from core.trials import Situation, find_trials, freed, is_outdone

PRIOR = Path(__file__).parents[2] / "assets" / "metamodel" / "prior.json"
GIB = 1 << 30
GPU = Device("CUDA0", "NVIDIA GeForce RTX 4090", DeviceKind.GPU, "CUDA", 24 * GIB, 14 * GIB, pci_id="0000:01:00.0")
CARD = ModelCard(
    model="m", title="M", architecture="llama", parameters=8_030_000_000, layers=32, hidden=4096, feed_forward=14336,
    heads=32, kv_heads=8, kv_width=2048, vocabulary=128_256, context_tokens=8192, source_sha256="00",
    source_quantization="F16",
    variants=(
        ModelVariant("F16", 16_070_000_000, "00", "f.gguf"),
        ModelVariant("Q8_0", 8_540_000_000, "00", "q8.gguf"),
        ModelVariant("Q4_K_M", 4_920_000_000, "00", "q4.gguf"),
    ),
)  # fmt: skip
SERVED = Plan("m", "llama.cpp", "Q8_0", slots=4, slot_context_tokens=2048, gpu_layers=33, device_id="CUDA0")


@pytest.fixture(scope="module")
def model() -> MetaModel:
    return MetaModel.open(PRIOR)


def situation(*, free_bytes: int = GPU.free_bytes, quality: QualityClass = QualityClass.STANDARD) -> Situation:
    gpu = msgspec.structs.replace(GPU, free_bytes=free_bytes)
    return Situation(CARD, SERVED, Machine((gpu,), 8, 64 * GIB, "llama.cpp 1"), Goal(quality=quality), None)


def found(model: MetaModel, now_is: Situation) -> list[str]:
    return [trial.plan.quantization for trial in find_trials(model, now_is, path_of=lambda q: Path(f"{q}.gguf"))]


def test_a_smaller_file_that_is_on_disk_is_worth_a_trial(model: MetaModel) -> None:
    model.experience = Experience()
    trials = find_trials(model, situation(), path_of=lambda q: Path(f"{q}.gguf"))
    assert trials and {trial.plan.quantization for trial in trials} <= {"Q4_K_M", "Q8_0"}
    assert all(trial.path == Path(f"{trial.plan.quantization}.gguf") for trial in trials)
    assert "Q4_K_M" in found(model, situation())


def test_what_loses_too_much_quality_is_not_tried(model: MetaModel) -> None:
    assert "Q4_K_M" not in found(model, situation(quality=QualityClass.PREMIUM))


def test_what_does_not_fit_beside_the_loaded_model_is_not_tried(model: MetaModel) -> None:
    for trial in find_trials(model, situation(free_bytes=3 * GIB), path_of=lambda q: Path(q)):
        assert model.fit.needed_bytes(trial.plan, CARD, device=GPU) < 3 * GIB


def test_what_was_measured_here_is_not_tried_again(model: MetaModel) -> None:
    model.experience = Experience()
    before = find_trials(model, situation(), path_of=lambda q: Path(q))
    record, here, shape = SpeedRecord(), place_of(GPU, "llama.cpp 1"), shape_of_model(CARD)
    for trial in before:
        size = CARD.variants[2].file_bytes
        record = record.with_run(MeasuredRun(1.0, here, trial.plan, shape, size, decode_tokens_per_s=60.0))
    model.experience = Experience(record, "llama.cpp 1")
    after = find_trials(model, situation(), path_of=lambda q: Path(q))
    assert not {trial.plan for trial in before} & {trial.plan for trial in after}


def test_a_plan_is_outdone_by_one_that_was_measured_to_be_far_faster(model: MetaModel) -> None:
    record, here, shape = SpeedRecord(), place_of(GPU, "llama.cpp 1"), shape_of_model(CARD)
    small = msgspec.structs.replace(SERVED, quantization="Q4_K_M")
    for plan, size, speed in ((SERVED, CARD.variants[1].file_bytes, 30.0), (small, CARD.variants[2].file_bytes, 140.0)):
        record = record.with_run(MeasuredRun(1.0, here, plan, shape, size, decode_tokens_per_s=speed))
    model.experience = Experience(record, "llama.cpp 1")
    now_is = situation(free_bytes=23 * GIB)
    assert is_outdone(model, now_is)
    best = model.choose(CARD, now_is.machine, benchmark=None, goal=now_is.goal)
    assert isinstance(best, Choice)
    assert not is_outdone(model, msgspec.structs.replace(now_is, incumbent=best.plan))


@pytest.mark.parametrize(("bandwidth", "slope"), [(70.0, 0.05), (70.0, 0.6), (25.0, 0.1)])
def test_a_plan_that_was_just_chosen_is_not_outdone(model: MetaModel, bandwidth: float, slope: float) -> None:
    """Also where the device that was measured is not the one that the first benchmark ran on."""
    gpu = Device("Vulkan0", "AMD Radeon Graphics", DeviceKind.INTEGRATED_GPU, "Vulkan", GIB, GIB // 2)
    cpu = Device("CPU", "AMD Ryzen 7", DeviceKind.CPU, "CPU", 32 * GIB, 24 * GIB)
    machine = Machine((gpu, cpu), 8, 32 * GIB, "llama.cpp 1")
    first = Benchmark(1.0, gpu, "llama.cpp 1", 60.0, 4.0, "m", "F16", 16_070_000_000, 50.0, 2.0, {1: 2.0})
    by_batch = {n: n * 30.0 * (1 + slope) / (1 + slope * n) for n in (1, 2, 4, 8)}
    shape = ModelShape(1_000_000_000, 16, 2048, 1024)
    own = Benchmark(
        1.0, cpu, "llama.cpp 1", bandwidth, 1.0, "made", "Q4_K_M", 650_000_000, 200.0, 30.0, by_batch, shape=shape
    )
    model.experience = Experience(SpeedRecord(), "llama.cpp 1")
    choice = model.choose(CARD, machine, benchmark=first, goal=Goal(), measured=(own,))
    assert isinstance(choice, Choice)
    assert not is_outdone(model, Situation(CARD, choice.plan, machine, Goal(), first, (own,)))


def test_what_the_loaded_worker_takes_is_free_without_it() -> None:
    machine = Machine((GPU,), 8, 64 * GIB, "llama.cpp 1")
    assert freed(machine, {"CUDA0": 4 * GIB}).devices[0].free_bytes == 18 * GIB
    assert freed(machine, {"CUDA0": 99 * GIB, "CPU": 1}).devices[0].free_bytes == 24 * GIB


def test_a_device_that_is_gone_is_no_place_for_trials(model: MetaModel) -> None:
    gone = msgspec.structs.replace(situation(), incumbent=msgspec.structs.replace(SERVED, device_id="CUDA1"))
    assert found(model, gone) == []
