"""What the hardware is, what it measured, and its readings now (memory, load, heat, watts).

Never reads the hardware itself: probe does, in its own room; these are the words for what it found.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class DeviceKind(StrEnum):
    """How memory and compute hang together."""

    GPU = "gpu"
    INTEGRATED_GPU = "integrated_gpu"
    CPU = "cpu"


class Device(msgspec.Struct, frozen=True):
    """One device that a model can run on. backend is llama.cpp's name (CUDA, Vulkan, Metal, CPU); power_w is the most
    that it may draw (0: not known)."""

    device_id: str
    name: str
    kind: DeviceKind
    backend: str
    memory_bytes: int
    free_bytes: int
    pci_id: str = ""
    driver: str = ""
    power_w: float = 0.0


class Machine(msgspec.Struct, frozen=True):
    """All devices, the best first, and the runtime's version. warning: a GPU would be left unused, and the fix. torch:
    its version where it is installed (empty: not, or not known)."""

    devices: tuple[Device, ...]
    cpu_cores: int
    ram_bytes: int
    runtime: str
    warning: str = ""
    torch: str = ""


class Reading(msgspec.Struct, frozen=True):
    """One look at the hardware. None means that the device does not say."""

    at: float
    load_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    memory_ours_bytes: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None


class ModelShape(msgspec.Struct, frozen=True):
    """What decides a model's speed beside its quantization. kv_width is of K plus V of one layer, in elements."""

    parameters: int
    layers: int
    hidden: int
    kv_width: int


class BenchmarkCell(msgspec.Struct, frozen=True):
    """One quantization of one model on one device. Speeds are per second; decode_by_batch is over the whole batch."""

    quantization: str
    model_bytes: int
    load_s: float
    prefill_tokens_per_s: float
    decode_by_batch: dict[int, float]
    spread: float = 0.0


class Benchmark(msgspec.Struct, frozen=True):
    """What this machine measured on itself, in llama-bench's way (warm-up, repetitions, median); speeds are per second.

    prefill and decode are of the model and quantization named here at batch 1; cells has further quantizations too.
    spread is the largest (p90 - p10) / median; drift is the most that two whole runs differed by, as a share. samples
    holds every raw figure by what it is of ("Q4_K_M decode 4"). shape is known of a model that was made up to measure.
    """

    at: float
    device: Device
    runtime: str
    memory_bandwidth_gbs: float
    matrix_tflops: float
    model: str
    quantization: str
    model_bytes: int
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    decode_by_batch: dict[int, float] = {}
    load_s: float = 0.0
    spread: float = 0.0
    torch: str = ""
    copy_gbs: float = 0.0
    drift: float = 0.0
    shape: ModelShape | None = None
    cells: tuple[BenchmarkCell, ...] = ()
    samples: dict[str, tuple[float, ...]] = {}
