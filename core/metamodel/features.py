"""One prediction's question in physical units: a Case, made from a plan, a device and a model's card.

Pure. Names of devices and models never enter: a new device, runtime or quantization needs no new class.
"""

from __future__ import annotations

import msgspec

from core.device import Benchmark, Device, DeviceKind
from core.metamodel.fit import WHOLE_PASS_TOKENS, file_bytes, kv_bytes_per_token, offload_share
from core.metamodel.quantizations import quantization
from core.model_card import ModelCard
from core.plan import Plan

HOST_BANDWIDTH_GBS = 40.0
HOST_MATRIX_TFLOPS = 0.6
UNKNOWN_FLASH = 0.5
_NOMINAL = {
    DeviceKind.GPU: (360.0, 30.0),
    DeviceKind.INTEGRATED_GPU: (90.0, 4.0),
    DeviceKind.CPU: (HOST_BANDWIDTH_GBS, HOST_MATRIX_TFLOPS),
}


class Rates(msgspec.Struct, frozen=True):
    """What a device can do at most: memory bandwidth in GB/s, matrix rate in TFLOP/s."""

    bandwidth_gbs: float
    matrix_tflops: float


class Case(msgspec.Struct, frozen=True):
    """Device, model, runtime and workload of one measurement or prediction.

    batch sequences step together at this depth (tokens already in the KV cache); prompt_tokens go into one prefill in
    chunks of chunk_tokens. host_share of the weights is read from the host's memory. gpus > 1 only where they share
    each layer's work. flash: 1 with flash attention, 0 without, half where nobody says.
    """

    bandwidth_gbs: float
    matrix_tflops: float
    file_bytes: float
    active_bytes: float
    parameters: float
    active_parameters: float
    layers: float
    hidden: float
    bits: float
    dequant_class: int = 0
    kv_bytes_per_token: float = 0.0
    batch: float = 1.0
    depth: float = 0.0
    prompt_tokens: float = 512.0
    chunk_tokens: float = 512.0
    host_share: float = 0.0
    gpus: int = 1
    unified: bool = False
    flash: float = UNKNOWN_FLASH
    backend: str = "cpu"
    runtime: str = "llama.cpp"


class Workload(msgspec.Struct, frozen=True):
    """How many sequences step together, how deep they are, and how long the prompts are, in tokens."""

    batch: float = 1.0
    depth: float = 0.0
    prompt_tokens: float = 512.0


def rates(device: Device, benchmark: Benchmark | None, *, nominal: Rates | None = None) -> Rates:
    """Measured here if the benchmark is of this device, else the datasheet's, else typical of the kind of device."""
    if benchmark is not None and is_of_device(benchmark, device) and benchmark.memory_bandwidth_gbs > 0:
        return Rates(benchmark.memory_bandwidth_gbs, max(benchmark.matrix_tflops, 1e-3))
    return nominal or Rates(*_NOMINAL[device.kind])


def is_of_device(benchmark: Benchmark, device: Device) -> bool:
    """A measurement counts for the device and driver that it was taken on."""
    measured = benchmark.device
    return measured.device_id == device.device_id and measured.driver == device.driver


def case(plan: Plan, device: Device, *, card: ModelCard, able: Rates, workload: Workload) -> Case:
    """The physical question behind a plan."""
    weights = float(file_bytes(card, plan.quantization))
    row = quantization(plan.quantization)
    return Case(
        bandwidth_gbs=able.bandwidth_gbs,
        matrix_tflops=able.matrix_tflops,
        file_bytes=weights,
        active_bytes=weights,
        parameters=float(card.parameters),
        active_parameters=float(card.parameters),
        layers=float(card.layers),
        hidden=float(card.hidden),
        bits=8 * weights / max(1, card.parameters),
        dequant_class=row.dequant_class if row is not None else 0,
        kv_bytes_per_token=kv_bytes_per_token(card, plan.kv_type),
        batch=workload.batch,
        depth=workload.depth,
        prompt_tokens=workload.prompt_tokens,
        chunk_tokens=float(plan.prefill_chunk or min(WHOLE_PASS_TOKENS, plan.slot_context_tokens)),
        host_share=0.0 if device.kind is DeviceKind.CPU else 1 - offload_share(plan, card),
        unified=device.kind is not DeviceKind.GPU,
        flash=float(plan.flash_attention),
        backend=backend_of(device),
        runtime=plan.runtime,
    )


def backend_of(device: Device) -> str:
    """The backend's name as the figures spell it: cuda, rocm, vulkan, metal, sycl or cpu."""
    name = device.backend.lower()
    aliases = {"hip": "rocm", "mtl": "metal", "blas": "cpu"}
    return aliases.get(name, name)
