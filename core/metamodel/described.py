"""A computer that is described in a file instead of measured: its devices, and what they can do at most.

Pure: text in, values out. The format is in assets/metamodel/devices/README.md. Never looks at this computer.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from core.device import Device, DeviceKind, Machine
from core.metamodel.described_fields import DEVICE_FIELDS, MACHINE_FIELDS, Field, checked
from core.metamodel.features import HOST_BANDWIDTH_GBS, HOST_MATRIX_TFLOPS, Rates

GIB = 1 << 30
_FREE_OF_GPU = 0.94
_FREE_OF_RAM = 0.75
# As llama.cpp numbers the devices of a backend.
_PREFIXES = {"METAL": "MTL", "VULKAN": "Vulkan", "ROCM": "ROCm"}
_TOO_MANY = 16


class DescriptionError(Exception):
    """The description cannot be used; the message says what is wrong with it."""


class Described(msgspec.Struct, frozen=True):
    """The machine, and the rates of its devices by device id."""

    machine: Machine
    nominal: dict[str, Rates]


class _Device(msgspec.Struct, frozen=True):
    name: str
    memory_gib: float
    bandwidth_gbs: float
    matrix_tflops: float
    kind: DeviceKind = DeviceKind.GPU
    backend: str = ""
    free_gib: float | None = None
    power_w: float = 0.0


class _Machine(msgspec.Struct, frozen=True):
    devices: tuple[_Device, ...]
    cpu_cores: int = 8
    ram_gib: float = 16.0
    free_ram_gib: float | None = None
    torch: str = ""


def described(text: bytes) -> Described:
    """The computer of this JSON: a machine, or one device alone. Raises DescriptionError."""
    if not text.strip():
        raise DescriptionError("The file is empty.")
    try:
        plain = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise DescriptionError("This is not JSON.") from error
    if not isinstance(plain, dict):
        raise DescriptionError("A device is described by one JSON object, in braces.")
    whole = plain if "devices" in plain else {"devices": [plain]}
    rows = whole["devices"]
    if not isinstance(rows, list) or not 1 <= len(rows) <= _TOO_MANY:
        raise DescriptionError(f"devices must be a list of 1 to {_TOO_MANY} devices.")
    devices = []
    for number, row in enumerate(rows, start=1):
        where = f"Device {number}: " if len(rows) > 1 else ""
        if not isinstance(row, dict):
            raise DescriptionError(f"{where}A device is described by one JSON object, in braces.")
        devices.append(_Device(**_checked(row, DEVICE_FIELDS, where=where)))
    of_machine = {name: value for name, value in whole.items() if name != "devices"}
    return _read(_Machine(tuple(devices), **_checked(of_machine, MACHINE_FIELDS, where="")))


def _checked(plain: dict[str, Any], fields: tuple[Field, ...], *, where: str) -> dict[str, Any]:
    try:
        return checked(plain, fields)
    except ValueError as error:
        raise DescriptionError(f"{where}{error}") from error


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
