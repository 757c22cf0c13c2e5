"""Look at the hardware: which devices a model can run on, what they read now, and whether a GPU is left unused.

Never imports a runtime: a throw-away child asks llama.cpp, so that a broken driver costs a child and not the engine.
"""

from __future__ import annotations

import os
import platform
import shutil
import time

import msgspec
import psutil
import trio

from core.device import Device, DeviceKind, Machine, Reading
from core.gpu_sensors import SeenGpu, read_gpu, seen_gpus
from core.unused_gpu import unused_gpu
from core.worker.messages import Devices, ListDevices
from core.worker.process import run_once

LIST_S = 60.0
_LOAD_OVER_S = 0.4
_HEAT_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "acpitz")


async def find_machine() -> Machine:
    """Everything that there is to compute on, the best device first. Never fails: the processor is always there."""
    report = await run_once(ListDevices(), deadline_s=LIST_S)
    gpus = await trio.to_thread.run_sync(seen_gpus)
    if isinstance(report, Devices):
        return machine_of(report, gpus)
    alone = Devices((_processor(),), "llama.cpp (not usable)")
    trouble = "The inference runtime does not start on this computer, so nothing can be served. Install Starling again."
    return msgspec.structs.replace(machine_of(alone, gpus), warning=trouble)


def machine_of(found: Devices, gpus: tuple[SeenGpu, ...], *, has_nvcc: bool | None = None) -> Machine:
    """Join llama.cpp's devices to what the driver says of them, and say which GPU would be left unused and why."""
    nvcc = shutil.which("nvcc") is not None if has_nvcc is None else has_nvcc
    by_pci = {gpu.pci_id: gpu for gpu in gpus if gpu.pci_id}
    return Machine(
        devices=tuple(_joined(device, by_pci.get(device.pci_id.lower())) for device in found.devices),
        cpu_cores=_cores(),
        ram_bytes=psutil.virtual_memory().total,
        runtime=found.runtime,
        warning=unused_gpu(found, gpus, has_nvcc=nvcc),
    )


def read_device(device: Device) -> Reading:
    """One look at a device; takes up to half a second. Blocking: call it in a thread."""
    if device.kind is not DeviceKind.CPU and device.pci_id:
        reading = read_gpu(device.pci_id)
        if reading is not None:
            return reading
    return _read_host()


def is_on_battery() -> bool | None:
    """Whether the machine runs on its battery; None without one."""
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return None if battery is None else not battery.power_plugged


def serving_threads(cores: int) -> int:
    """How many threads compute: one core stays free for the owner and the engine itself. llama.cpp's threads wait for
    each other by spinning, so that one thread too many on a busy machine costs far more than it brings."""
    return max(1, cores - 1)


def _joined(device: Device, gpu: SeenGpu | None) -> Device:
    if gpu is None:
        return device
    return msgspec.structs.replace(
        device,
        name=gpu.name if gpu.driver else device.name,
        driver=gpu.driver,
        memory_bytes=device.memory_bytes or gpu.memory_bytes,
        free_bytes=gpu.free_bytes or device.free_bytes,
        power_w=gpu.power_limit_w,
    )


def _cores() -> int:
    """Real cores that this process may use: a container often gets fewer than the machine has."""
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return min(cores, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else cores


def _processor() -> Device:
    memory = psutil.virtual_memory()
    name = platform.processor() or "Processor"
    return Device("CPU", name, DeviceKind.CPU, "CPU", memory.total, memory.available)


def _read_host() -> Reading:
    """With an interval of its own: psutil counts from the last call of the same thread, and ours may be a new one."""
    memory = psutil.virtual_memory()
    return Reading(
        at=time.time(),
        load_percent=psutil.cpu_percent(_LOAD_OVER_S),
        memory_used_bytes=memory.total - memory.available,
        memory_total_bytes=memory.total,
        memory_ours_bytes=_our_memory(),
        temperature_c=_host_heat(),
    )


def _our_memory() -> int:
    """Resident memory of this process and its children; a shared page counts once for each."""
    ours = psutil.Process()
    total = 0
    for process in (ours, *ours.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


def _host_heat() -> float | None:
    if not hasattr(psutil, "sensors_temperatures"):
        return None
    sensors = psutil.sensors_temperatures()
    heats = [s.current for name in _HEAT_SENSORS for s in sensors.get(name, ()) if s.current]
    return max(heats, default=None)
