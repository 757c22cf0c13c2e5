"""How fast a GPU's memory and matrix units are: measured with torch where it is installed, else from what NVML says.

Never guesses: a rate that nobody can tell is 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from core.device import Device

COPY_BYTES = 1 << 28
MATRIX = 4096
REPETITIONS = 5


def gpu_rates(device: Device) -> tuple[list[float], list[float]]:
    """Samples of memory bandwidth in GB/s and of the matrix rate in TFLOP/s; at least one of each."""
    if device.backend in ("CUDA", "ROCm") and (measured := _by_torch(device)) is not None:
        return measured
    return _by_nvml(device)


def _by_torch(device: Device) -> tuple[list[float], list[float]] | None:
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    place = torch.device("cuda", int(device.device_id.lstrip("CUDAROm") or 0))
    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=place)
    target = torch.empty_like(source)
    left = torch.ones((MATRIX, MATRIX), dtype=torch.float16, device=place)

    def timed(work: Callable[[], object], amount: float) -> float:
        torch.cuda.synchronize(place)
        began = time.perf_counter()
        work()
        torch.cuda.synchronize(place)
        return amount / (time.perf_counter() - began)

    copies = [timed(lambda: target.copy_(source), 2 * COPY_BYTES / 1e9) for _ in range(REPETITIONS + 1)]
    products = [timed(lambda: torch.matmul(left, left), 2 * MATRIX**3 / 1e12) for _ in range(REPETITIONS + 1)]
    return copies[1:], products[1:]


def _by_nvml(device: Device) -> tuple[list[float], list[float]]:
    """The datasheet's way: bus width times twice the memory clock, and two operations a core and cycle."""
    try:
        import pynvml
    except ImportError:
        return [0.0], [0.0]
    try:
        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByPciBusId(device.pci_id)
            bits = pynvml.nvmlDeviceGetMemoryBusWidth(handle)
            megahertz = pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM)
            cores = pynvml.nvmlDeviceGetNumGpuCores(handle)
            core_megahertz = pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return [0.0], [0.0]
    return [2 * bits / 8 * megahertz / 1e3], [2 * cores * core_megahertz / 1e6]
