"""The laws of saying why the processor works though a GPU is there."""

from __future__ import annotations

import msgspec

from core.device import Device, DeviceKind, Machine
from core.metamodel.fit import Fit
from core.metamodel.goal import Limits
from core.metamodel.gpu_use import gpu_shortfall
from core.model_card import ModelCard
from core.plan import Plan

GIB = 1 << 30
CPU = Device("CPU", "A CPU", DeviceKind.CPU, "CPU", memory_bytes=64 * GIB, free_bytes=60 * GIB)
GPU = Device("CUDA0", "NVIDIA RTX", DeviceKind.GPU, "CUDA", memory_bytes=24 * GIB, free_bytes=23 * GIB)
CARD = ModelCard(
    model="eight-b", title="Eight B", architecture="llama", parameters=8_030_000_000, layers=32, hidden=4096,
    feed_forward=14336, heads=32, kv_heads=8, kv_width=2048, vocabulary=128_256, context_tokens=8192,
    source_sha256="00", source_quantization="F16",
)


def said(plan: Plan, *, free: int, devices: tuple[Device, ...] = ()) -> str:
    gpu = msgspec.structs.replace(GPU, free_bytes=free)
    machine = Machine(devices or (gpu, CPU), 8, 64 * GIB, "llama.cpp")
    return gpu_shortfall(CARD, machine, plan=plan, limits=Limits(), fit=Fit())


def plan(layers: int, device: str = "CUDA0") -> Plan:
    return Plan("eight-b", "llama.cpp", "Q4_K_M", 1, 2048, gpu_layers=layers, device_id=device)


def test_a_plan_whole_on_the_gpu_says_nothing() -> None:
    assert said(plan(33), free=23 * GIB) == ""


def test_a_gpu_too_small_for_any_plan_says_what_is_needed_and_what_is_free() -> None:
    text = said(plan(0, "CPU"), free=GIB // 4)
    assert text.startswith("Eight B does not fit on your NVIDIA RTX: it needs ")
    assert "0.3 GB are free there" in text and "Close programs" in text


def test_a_gpu_that_takes_part_of_the_layers_says_how_many() -> None:
    assert said(plan(12), free=3 * GIB).startswith("Only 12 of 33 layers of Eight B fit on your NVIDIA RTX")


def test_a_processor_that_was_only_predicted_faster_is_no_trouble() -> None:
    assert said(plan(0, "CPU"), free=23 * GIB) == ""


def test_a_machine_without_a_gpu_says_nothing() -> None:
    assert said(plan(0, "CPU"), free=0, devices=(CPU,)) == ""
