"""The laws of the meta-model on its landed prior: near what was measured, sensible elsewhere, quick."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from core.device import Benchmark, Device, DeviceKind, Machine, ModelShape
from core.memory import FailedLoad, MemoryRecord, device_key
from core.metamodel.candidates import candidates
from core.metamodel.datasheets import Datasheet, find
from core.metamodel.fit import Fit
from core.metamodel.goal import Goal, Limits
from core.metamodel.meta_model import MetaModel
from core.model_card import ModelCard, ModelVariant
from core.plan import Choice, NoPlan, Plan

PRIOR = Path(__file__).parents[3] / "assets" / "metamodel" / "prior.json"
GIB = 1 << 30
CPU = Device("cpu", "A CPU", DeviceKind.CPU, "CPU", memory_bytes=8 * GIB, free_bytes=6 * GIB)
GPU = Device("cuda0", "NVIDIA GeForce RTX 4090", DeviceKind.GPU, "CUDA", memory_bytes=24 * GIB, free_bytes=23 * GIB)
DEMO = ModelCard(
    model="demo", title="Demo", architecture="llama", parameters=2_300_000, layers=3, hidden=256, feed_forward=512,
    heads=8, kv_heads=4, kv_width=256, vocabulary=2048, context_tokens=2048, source_sha256="00",
    source_quantization="F16",
    variants=(ModelVariant("F16", 4_800_000, "00", "a.gguf"), ModelVariant("Q8_0", 2_600_000, "00", "b.gguf")),
)
EIGHT_B = ModelCard(
    model="eight-b", title="8B", architecture="llama", parameters=8_030_000_000, layers=32, hidden=4096,
    feed_forward=14336, heads=32, kv_heads=8, kv_width=2048, vocabulary=128_256, context_tokens=8192,
    source_sha256="00", source_quantization="F16",
)
OWN = Benchmark(
    at=0.0, device=CPU, runtime="llama.cpp", memory_bandwidth_gbs=12.0, matrix_tflops=0.15, model="demo",
    quantization="Q8_0", model_bytes=2_600_000, prefill_tokens_per_s=9000.0, decode_tokens_per_s=1500.0,
    decode_by_batch={1: 1500.0, 4: 3000.0, 8: 4200.0},
)


@pytest.fixture(scope="module")
def model() -> MetaModel:
    return MetaModel.open(PRIOR)


def demo_plan(quantization: str) -> Plan:
    return Plan("demo", "llama.cpp", quantization, slots=4, slot_context_tokens=512, device_id="cpu")


def test_the_benchmarked_cell_is_predicted_close_to_what_was_measured(model: MetaModel) -> None:
    found = model.predict(demo_plan("Q8_0"), CPU, card=DEMO, benchmark=OWN)
    assert abs(found.decode_tokens_per_s / OWN.decode_tokens_per_s - 1) < 0.1
    assert abs(found.prefill_tokens_per_s / OWN.prefill_tokens_per_s - 1) < 0.1
    assert found.decode_low_tokens_per_s < OWN.decode_tokens_per_s < found.decode_high_tokens_per_s


def test_other_quantizations_stay_in_proportion_to_the_measured_one(model: MetaModel) -> None:
    full, small = (model.predict(demo_plan(q), CPU, card=DEMO, benchmark=OWN) for q in ("F16", "Q4_0"))
    assert 0.4 * 1500 < full.decode_tokens_per_s < 1500 < small.decode_tokens_per_s < 2.5 * 1500


def test_an_own_run_narrows_the_bounds(model: MetaModel) -> None:
    cold = model.predict(demo_plan("Q8_0"), CPU, card=DEMO)
    warm = model.predict(demo_plan("Q8_0"), CPU, card=DEMO, benchmark=OWN)
    assert cold.decode_low_tokens_per_s / cold.decode_tokens_per_s < (
        warm.decode_low_tokens_per_s / warm.decode_tokens_per_s
    )


def test_a_made_up_model_speaks_for_a_device_that_no_model_was_measured_on(model: MetaModel) -> None:
    made = msgspec.structs.replace(
        OWN, device=msgspec.structs.replace(CPU, device_id="cpu1"), model="synthetic-134m",
        shape=ModelShape(134_000_000, 12, 768, 1536), model_bytes=143_000_000, decode_tokens_per_s=80.0,
        prefill_tokens_per_s=400.0, decode_by_batch={1: 80.0, 4: 150.0, 8: 200.0},
    )  # fmt: skip
    alike = msgspec.structs.replace(
        DEMO, parameters=134_000_000, layers=12, hidden=768, feed_forward=2048, heads=12, kv_heads=12, kv_width=1536,
        vocabulary=32_000, variants=(ModelVariant("Q8_0", 143_000_000, "00", "b.gguf"),),
    )  # fmt: skip
    machine = Machine((made.device,), 2, 8 * GIB, "llama.cpp")
    cold = model.choose(alike, machine, benchmark=OWN, goal=Goal())
    warm = model.choose(alike, machine, benchmark=OWN, goal=Goal(), measured=(made,))
    assert isinstance(cold, Choice) and isinstance(warm, Choice)
    assert cold.estimate != warm.estimate
    found = model.predict(demo_plan("Q8_0"), made.device, card=alike, benchmark=made)
    assert abs(found.decode_tokens_per_s / 80 - 1) < 0.15


def test_another_driver_forgets_the_measurement(model: MetaModel) -> None:
    renewed = msgspec.structs.replace(CPU, driver="2")
    cold = model.predict(demo_plan("Q8_0"), CPU, card=DEMO)
    assert model.predict(demo_plan("Q8_0"), renewed, card=DEMO, benchmark=OWN) == cold


def test_the_measured_batches_give_the_slope(model: MetaModel) -> None:
    found = model.predict(demo_plan("Q8_0"), CPU, card=DEMO, benchmark=OWN)
    assert 0.2 < found.step_slope < 0.5


def test_a_datasheet_device_is_known_before_it_is_measured(model: MetaModel) -> None:
    chosen = model.choose(EIGHT_B, Machine((GPU, CPU), 16, 64 * GIB, "llama.cpp"), benchmark=None, goal=Goal())
    assert isinstance(chosen, Choice)
    assert chosen.plan.device_id == "cuda0"
    assert 70 < chosen.estimate.decode_tokens_per_s < 200


def test_choosing_takes_less_than_a_second(model: MetaModel) -> None:
    machine = Machine((GPU, CPU), 16, 64 * GIB, "llama.cpp")
    started = time.perf_counter()
    model.choose(EIGHT_B, machine, benchmark=None, goal=Goal())
    assert time.perf_counter() - started < 1.0


def test_the_choice_carries_what_was_measured_of_its_own_plan(model: MetaModel) -> None:
    machine = Machine((CPU,), 2, 8 * GIB, "llama.cpp")
    only_q8 = msgspec.structs.replace(DEMO, source_quantization="TQ1_0", variants=DEMO.variants[1:])
    chosen = model.choose(only_q8, machine, benchmark=OWN, goal=Goal())
    assert isinstance(chosen, Choice)
    assert chosen.plan.quantization == "Q8_0"
    assert chosen.measured_decode_tokens_per_s == 1500.0


def test_a_model_larger_than_memory_has_no_plan(model: MetaModel) -> None:
    small = msgspec.structs.replace(CPU, free_bytes=GIB)
    found = model.choose(EIGHT_B, Machine((small,), 2, 2 * GIB, "llama.cpp"), benchmark=None, goal=Goal())
    assert isinstance(found, NoPlan)


def test_a_gpu_too_small_takes_part_of_the_layers(model: MetaModel) -> None:
    small = msgspec.structs.replace(GPU, free_bytes=3 * GIB)
    chosen = model.choose(EIGHT_B, Machine((small, CPU), 16, 64 * GIB, "llama.cpp"), benchmark=None, goal=Goal())
    assert isinstance(chosen, Choice)
    assert 0 < chosen.plan.gpu_layers < EIGHT_B.layers + 1


def test_a_model_too_large_for_one_gpu_is_split_over_two_by_their_free_memory() -> None:
    model = MetaModel.open(PRIOR)
    larger, smaller = (
        msgspec.structs.replace(GPU, device_id=name, pci_id=name, free_bytes=free * GIB)
        for name, free in (("cuda0", 14), ("cuda1", 7))
    )
    card = msgspec.structs.replace(EIGHT_B, variants=(ModelVariant("F16", 16_070_000_000, "00", "a.gguf"),))
    machine = Machine((larger, smaller, CPU), 16, 64 * GIB, "llama.cpp")
    alone_only = Limits(max_slots=1)
    plans = candidates(card, larger, machine=machine, goal=Goal(limits=alone_only), fit=model.fit)
    split = [p for p in plans if p.quantization == "F16"]
    assert split and all(p.more_devices == ("cuda1",) for p in split)
    assert all(abs(p.layer_split[0] - 2 / 3) < 0.02 and p.gpu_layers == card.layers + 1 for p in split)
    alone = [p for p in plans if p.quantization == "Q4_0"]
    assert alone and not any(p.more_devices for p in alone)
    assert not any(p.more_devices for p in candidates(card, smaller, machine=machine, goal=Goal(), fit=model.fit))


def test_what_ran_out_of_memory_is_not_chosen_again() -> None:
    model = MetaModel.open(PRIOR)
    machine = Machine((GPU,), 16, 64 * GIB, "llama.cpp")
    first = model.choose(EIGHT_B, machine, benchmark=None, goal=Goal())
    assert isinstance(first, Choice)
    failure = FailedLoad(device_key(GPU), first.estimate.memory_bytes, GPU.free_bytes)
    model.fit = Fit(MemoryRecord((failure,)))
    second = model.choose(EIGHT_B, machine, benchmark=None, goal=Goal())
    assert isinstance(second, Choice)
    assert second.estimate.memory_bytes < first.estimate.memory_bytes


def test_the_owners_cap_holds(model: MetaModel) -> None:
    machine = Machine((GPU, CPU), 16, 64 * GIB, "llama.cpp")
    goal = Goal(limits=Limits(max_bytes=6 * GIB))
    chosen = model.choose(EIGHT_B, machine, benchmark=None, goal=goal)
    assert isinstance(chosen, Choice)
    assert chosen.estimate.memory_bytes <= 6 * GIB


def test_a_near_name_is_not_taken_for_a_device() -> None:
    sheets = {"GeForce RTX 4070 Ti": Datasheet(12, 504, 80), "Apple M1 Max 32c 64GB": Datasheet(64, 400, 10.5)}
    assert find(msgspec.structs.replace(GPU, name="NVIDIA GeForce RTX 4070"), sheets) is None
    found = find(msgspec.structs.replace(GPU, name="Apple M1 Max"), sheets)
    assert found is not None
    assert found.bandwidth_gbs == 400


def test_the_prior_is_small() -> None:
    assert PRIOR.stat().st_size < 1_000_000
