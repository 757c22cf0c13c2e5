"""A computer that is described in a file instead of measured: its devices, and what they can do at most.

Pure: text in, values out. The format is in assets/metamodel/devices/README.md. Never looks at this computer.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import msgspec

from core.device import Device, DeviceKind, Machine
from core.metamodel.features import HOST_BANDWIDTH_GBS, HOST_MATRIX_TFLOPS, Rates

GIB = 1 << 30
_FREE_OF_GPU = 0.94
_FREE_OF_RAM = 0.75
# As llama.cpp numbers the devices of a backend.
_PREFIXES = {"METAL": "MTL", "VULKAN": "Vulkan", "ROCM": "ROCm"}
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class DescriptionError(Exception):
    """The description cannot be used; the message says what is wrong with it."""


class Described(msgspec.Struct, frozen=True):
    """The machine, and the rates of its devices by device id."""

    machine: Machine
    nominal: dict[str, Rates]


class _Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    memory_gib: Positive
    bandwidth_gbs: Positive
    matrix_tflops: Positive
    kind: DeviceKind = DeviceKind.GPU
    backend: str = ""
    free_gib: Amount | None = None
    power_w: Amount = 0.0


class _Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    devices: Annotated[tuple[_Device, ...], msgspec.Meta(min_length=1, max_length=16)]
    cpu_cores: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 8
    ram_gib: Positive = 16.0
    free_ram_gib: Amount | None = None
    torch: str = ""


def described(text: bytes) -> Described:
    """The computer of this JSON: a machine, or one device alone. Raises DescriptionError."""
    try:
        plain = msgspec.json.decode(text)
        is_machine = isinstance(plain, dict) and "devices" in plain
        found = msgspec.convert(plain if is_machine else {"devices": [plain]}, _Machine)
    except msgspec.MsgspecError as error:
        raise DescriptionError(f"The description of the device is not usable: {error}.") from error
    return _read(found)


def _read(found: _Machine) -> Described:
    devices, nominal, counts = [], {}, Counter[str]()
    for row in found.devices:
        device = _device(row, number=counts[_backend(row)])
        counts[_backend(row)] += 1
        devices.append(device)
        nominal[device.device_id] = Rates(row.bandwidth_gbs, row.matrix_tflops)
    if all(device.kind is not DeviceKind.CPU for device in devices):
        devices.append(_processor(found))
        nominal[devices[-1].device_id] = Rates(HOST_BANDWIDTH_GBS, HOST_MATRIX_TFLOPS)
    ram = round(found.ram_gib * GIB)
    return Described(Machine(tuple(devices), found.cpu_cores, ram, "described", torch=found.torch), nominal)


def _device(row: _Device, *, number: int) -> Device:
    is_cpu = row.kind is DeviceKind.CPU
    free = row.free_gib if row.free_gib is not None else row.memory_gib * (_FREE_OF_RAM if is_cpu else _FREE_OF_GPU)
    backend = _backend(row)
    return Device(
        device_id="CPU" if is_cpu else f"{_PREFIXES.get(backend.upper(), backend)}{number}",
        name=row.name,
        kind=row.kind,
        backend=backend,
        memory_bytes=round(row.memory_gib * GIB),
        free_bytes=round(min(free, row.memory_gib) * GIB),
        power_w=row.power_w,
    )


def _backend(row: _Device) -> str:
    return row.backend or ("CPU" if row.kind is DeviceKind.CPU else "CUDA")


def _processor(found: _Machine) -> Device:
    free = found.free_ram_gib if found.free_ram_gib is not None else _FREE_OF_RAM * found.ram_gib
    total = round(found.ram_gib * GIB)
    return Device("CPU", "Processor", DeviceKind.CPU, "CPU", total, round(min(free, found.ram_gib) * GIB))
