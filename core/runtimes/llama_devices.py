"""Which devices llama.cpp can compute on here, by its own backends.

Only asks; never allocates on a device. NVML's view (driver, load, heat) is joined to it elsewhere, by PCI id.
"""

from __future__ import annotations

import ctypes

import llama_cpp
import psutil
from llama_cpp._ctypes_extensions import load_shared_library
from llama_cpp.llama_cpp import _base_path

from core.device import Device, DeviceKind

_KINDS = {0: DeviceKind.CPU, 1: DeviceKind.GPU, 2: DeviceKind.INTEGRATED_GPU}


class Caps(ctypes.Structure):
    """struct ggml_backend_dev_caps of ggml-backend.h."""

    _fields_ = [(name, ctypes.c_bool) for name in ("is_async", "host_buffer", "from_host", "events", "mmap")]


class Props(ctypes.Structure):
    """struct ggml_backend_dev_props of ggml-backend.h, with room for what a later one may add."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("caps", Caps),
        ("spare", ctypes.c_char * 64),
    ]


def runtime_version() -> str:
    """The line by which a benchmark knows whether it still speaks for this runtime."""
    return f"llama.cpp (llama-cpp-python {llama_cpp.__version__})"


def list_devices() -> tuple[Device, ...]:
    """GPUs first, then the CPU. Accelerators that only help the CPU (BLAS, AMX) are not devices of their own."""
    registry = load_shared_library("ggml", _base_path)
    backends = load_shared_library("ggml-base", _base_path)
    registry.ggml_backend_dev_count.restype = ctypes.c_size_t
    if registry.ggml_backend_dev_count() == 0:
        registry.ggml_backend_load_all_from_path(str(_base_path).encode())
    registry.ggml_backend_dev_get.restype = ctypes.c_void_p
    registry.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    backends.ggml_backend_dev_get_props.argtypes = [ctypes.c_void_p, ctypes.POINTER(Props)]
    devices = []
    for index in range(registry.ggml_backend_dev_count()):
        props = Props()
        backends.ggml_backend_dev_get_props(registry.ggml_backend_dev_get(index), ctypes.byref(props))
        if props.type in _KINDS:
            devices.append(_device(props))
    order = list(DeviceKind)
    return tuple(sorted(devices, key=lambda d: (order.index(d.kind), -d.memory_bytes)))


def backend_names() -> tuple[str, ...]:
    """The backends of this build, also those that found no device: CUDA, Vulkan, Metal, CPU ..."""
    registry = load_shared_library("ggml", _base_path)
    backends = load_shared_library("ggml-base", _base_path)
    registry.ggml_backend_reg_get.restype = ctypes.c_void_p
    registry.ggml_backend_reg_get.argtypes = [ctypes.c_size_t]
    backends.ggml_backend_reg_name.restype = ctypes.c_char_p
    backends.ggml_backend_reg_name.argtypes = [ctypes.c_void_p]
    registry.ggml_backend_reg_count.restype = ctypes.c_size_t
    numbers = range(registry.ggml_backend_reg_count())
    names = (backends.ggml_backend_reg_name(registry.ggml_backend_reg_get(number)) for number in numbers)
    return tuple((name or b"").decode("utf-8", "replace") for name in names)


def free_bytes(device_id: str) -> int:
    """Free memory of this device, or of the host when it is none of ours."""
    devices = {device.device_id: device for device in list_devices()}
    return devices[device_id].free_bytes if device_id in devices else psutil.virtual_memory().available


def _device(props: Props) -> Device:
    name = (props.name or b"").decode("utf-8", "replace")
    kind = _KINDS[props.type]
    memory = psutil.virtual_memory()
    is_cpu = kind is DeviceKind.CPU
    return Device(
        device_id=name,
        name=(props.description or b"").decode("utf-8", "replace").strip() or name,
        kind=kind,
        backend=name.rstrip("0123456789") or name,
        # ggml calls all of the host's memory free
        memory_bytes=memory.total if is_cpu else props.memory_total,
        free_bytes=memory.available if is_cpu else props.memory_free,
        pci_id=(props.device_id or b"").decode("ascii", "replace"),
    )
