"""Where a plan's device lies for torch, and what a lack of memory looks like."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import msgspec
import torch

from core.plan import Plan
from core.runtimes.runtime import OutOfMemory, RuntimeFault
from core.runtimes.torch_place import device_of, free_bytes, memory_faults, type_of, used_bytes
from core.worker.messages import FaultKind

PLAN = Plan("x", "torch", "F32", slots=1, slot_context_tokens=64)
CPU = torch.device("cpu")


def on(name: str, *more: str) -> Plan:
    return msgspec.structs.replace(PLAN, device_id=name, gpu_layers=99, more_devices=more)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(("name", "place"), [("CUDA0", "cuda:0"), ("CUDA1", "cuda:1"), ("ROCm1", "cuda:1")])
def test_llama_cpps_names_of_gpus_are_torchs_devices(name: str, place: str) -> None:
    assert device_of(on(name)) == torch.device(place)


def test_metal_is_torchs_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert {device_of(on(name)) for name in ("MTL0", "Metal")} == {torch.device("mps")}


def test_a_plan_without_gpu_layers_is_the_processors_whatever_device_it_names() -> None:
    assert device_of(msgspec.structs.replace(PLAN, device_id="CUDA0")) == CPU


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("plan", [on("CUDA2"), on("Vulkan0"), on(""), on("CUDA0", "CUDA1")])
def test_a_gpu_that_torch_cannot_use_is_refused_and_never_replaced(plan: Plan) -> None:
    with pytest.raises(RuntimeFault) as refused:
        device_of(plan)
    assert refused.value.kind is FaultKind.BAD_REQUEST


def test_a_quantization_of_llama_cpps_is_refused() -> None:
    assert type_of(msgspec.structs.replace(PLAN, quantization="BF16")) is torch.bfloat16
    with pytest.raises(RuntimeFault, match="not Q4_K_M"):
        type_of(msgspec.structs.replace(PLAN, quantization="Q4_K_M"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        MemoryError(),
    ],
)
def test_each_way_of_running_out_is_out_of_memory(error: Exception) -> None:
    doing = memory_faults(CPU, doing="The next step")
    with pytest.raises(OutOfMemory, match="^The next step does not fit") as refused, doing:
        raise error
    assert refused.value.kind is FaultKind.OUT_OF_MEMORY and refused.value.free_bytes > 0


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shape"), memory_faults(CPU, doing="The model"):
        raise RuntimeError("shape mismatch")


def test_the_processor_has_free_memory_and_no_count_of_what_torch_took() -> None:
    assert free_bytes(CPU) > 0 and used_bytes(CPU) == 0
