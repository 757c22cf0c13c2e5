"""What GPUs say about themselves: through NVML for NVIDIA's, through sysfs for others on Linux.

Only reads; never sets a clock or a limit. What a GPU does not tell is None.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil

from core.device import Reading

PCI_DEVICES = Path("/sys/bus/pci/devices")
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD"}
_DISPLAY_CLASSES = ("0x0300", "0x0302", "0x0380")
T = TypeVar("T")


class SeenGpu(msgspec.Struct, frozen=True):
    """A GPU that is in this machine, whether or not a runtime can use it. driver is the version that NVML says, empty
    where the driver does not answer; module is the kernel's driver that holds the card, empty where none does.
    power_limit_w is the most that it may draw (0: it does not say)."""

    vendor: str
    name: str
    pci_id: str
    driver: str = ""
    memory_bytes: int = 0
    free_bytes: int = 0
    module: str = ""
    power_limit_w: float = 0.0


def seen_gpus(root: Path = PCI_DEVICES) -> tuple[SeenGpu, ...]:
    """Discrete GPUs that a driver or the PCI bus shows, those whose driver answers first."""
    answering = _nvml_gpus()
    known = {gpu.pci_id for gpu in answering}
    return (*answering, *(gpu for gpu in _pci_gpus(root) if gpu.pci_id not in known))


def read_gpu(pci_id: str) -> Reading | None:
    """One look at the GPU on this PCI address, or None when nobody can read it."""
    return _read_nvml(pci_id) or _read_sysfs(PCI_DEVICES / pci_id)


def _open_nvml() -> Any | None:
    """NVML, or None without an NVIDIA driver. It stays open: opening it again is then free."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _nvml_gpus() -> tuple[SeenGpu, ...]:
    nvml = _open_nvml()
    if nvml is None:
        return ()
    gpus = []
    with suppress(nvml.NVMLError):
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            pci = short_pci_id(_text(nvml.nvmlDeviceGetPciInfo(handle).busId))
            name = _text(nvml.nvmlDeviceGetName(handle))
            seen = SeenGpu("NVIDIA", name, pci, driver, memory.total, memory.free)
            gpus.append(msgspec.structs.replace(seen, power_limit_w=_power_limit_w(nvml, handle)))
    return tuple(gpus)


def _power_limit_w(nvml: Any, handle: Any) -> float:
    """Mobile GPUs and some others do not say."""
    try:
        return float(nvml.nvmlDeviceGetEnforcedPowerLimit(handle)) / 1000
    except nvml.NVMLError:
        return 0.0


def short_pci_id(pci_id: str) -> str:
    """NVML's 00000000:C1:00.0 as ggml and sysfs write it: 0000:c1:00.0."""
    domain, colon, rest = pci_id.lower().partition(":")
    return f"{domain[-4:]}{colon}{rest}"


def _pci_gpus(root: Path) -> tuple[SeenGpu, ...]:
    gpus = []
    for device in sorted(root.glob("*")) if root.is_dir() else ():
        vendor = _VENDORS.get(_line(device / "vendor"))
        if vendor and _line(device / "class")[:6] in _DISPLAY_CLASSES:
            gpus.append(_pci_gpu(device, vendor))
    return tuple(gpus)


def _pci_gpu(device: Path, vendor: str) -> SeenGpu:
    module = device / "driver"
    total, used = _number(device / "mem_info_vram_total") or 0, _number(device / "mem_info_vram_used") or 0
    return SeenGpu(
        vendor,
        f"{vendor} GPU",
        device.name,
        memory_bytes=int(total),
        free_bytes=int(total - used),
        module=module.resolve().name if module.exists() else "",
    )


def _read_nvml(pci_id: str) -> Reading | None:
    nvml = _open_nvml()
    if nvml is None or not pci_id:
        return None
    try:
        handle = nvml.nvmlDeviceGetHandleByPciBusId(pci_id.encode())
    except nvml.NVMLError:
        return None

    def ask(question: Callable[[], T]) -> T | None:
        try:
            return question()
        except nvml.NVMLError:
            return None

    memory = ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    rates = ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    power = ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    limit = ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    heat = ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    programs = ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    return Reading(
        at=time.time(),
        load_percent=None if rates is None else float(rates.gpu),
        memory_used_bytes=None if memory is None else memory.used,
        memory_total_bytes=None if memory is None else memory.total,
        memory_ours_bytes=None if programs is None else _ours(programs),
        power_w=None if power is None else power / 1000,
        power_limit_w=None if limit is None else limit / 1000,
        temperature_c=None if heat is None else float(heat),
    )


def _ours(programs: list[Any]) -> int:
    family = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    return sum(program.usedGpuMemory or 0 for program in programs if program.pid in family)


def _read_sysfs(device: Path) -> Reading | None:
    """amdgpu's files: percent, bytes, micro-watts, milli-degrees (kernel documentation, gpu/amdgpu/thermal)."""
    total = _number(device / "mem_info_vram_total")
    if total is None:
        return None
    sensors = next(iter(sorted(device.glob("hwmon/hwmon*"))), device)
    heat, power = _number(sensors / "temp1_input"), _number(sensors / "power1_average")
    limit, used = _number(sensors / "power1_cap"), _number(device / "mem_info_vram_used")
    return Reading(
        at=time.time(),
        load_percent=_number(device / "gpu_busy_percent"),
        memory_used_bytes=None if used is None else int(used),
        memory_total_bytes=int(total),
        power_w=None if power is None else power / 1e6,
        power_limit_w=None if limit is None else limit / 1e6,
        temperature_c=None if heat is None else heat / 1000,
    )


def _number(path: Path) -> float | None:
    text = _line(path)
    return float(text) if text.isdecimal() else None


def _line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
