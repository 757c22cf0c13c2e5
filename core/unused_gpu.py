"""Why the processor works though a GPU is there, in words that the owner can act on: loud, and never a guess.

Pure but for the installed package's version. Never looks at the hardware: probe does, and hands over what it found.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from core.device import DeviceKind
from core.gpu_sensors import SeenGpu
from core.worker.messages import Devices

_BACKENDS = {"NVIDIA": ("CUDA", "Vulkan"), "AMD": ("ROCm", "HIP", "Vulkan")}
_FREE_MODULES = {"NVIDIA": ("nouveau", "nova_core"), "AMD": ("radeon",)}
_PASSED_ON = ("vfio-pci", "pci-stub", "xen-pciback")
_HIDING = {"NVIDIA": "CUDA_VISIBLE_DEVICES", "AMD": "HIP_VISIBLE_DEVICES"}
_SLOWER = "Models run on the processor, which is many times slower."


def unused_gpu(found: Devices, gpus: tuple[SeenGpu, ...], *, has_nvcc: bool) -> str:
    """One paragraph about the first GPU, or nothing when a GPU is used or there is none."""
    if not gpus or any(device.kind is not DeviceKind.CPU for device in found.devices):
        return ""
    gpu = gpus[0]
    return f"Your {gpu.name} is not used: {_reason(gpu, found.backends, has_nvcc=has_nvcc)}"


def _reason(gpu: SeenGpu, backends: tuple[str, ...], *, has_nvcc: bool) -> str:
    """Why this GPU is left alone, from the card upwards: its driver, our way to it, our build."""
    if gpu.module in _PASSED_ON:
        return f"it is set aside for virtual machines ({gpu.module}). {_SLOWER} Give it back to this system to use it."
    if gpu.vendor == "NVIDIA" and not gpu.driver:
        return _without_nvml(gpu)
    if gpu.vendor == "AMD" and gpu.module in ("", *_FREE_MODULES["AMD"]):
        return f"the driver amdgpu does not run for it. {_SLOWER} Install AMD's driver and restart."
    able = [name for name in _BACKENDS[gpu.vendor] if name in backends]
    if able:
        return (
            f"llama.cpp was built for {able[0]} but finds no device. {_SLOWER} Update the GPU's driver, restart the"
            f" computer, and look that {_HIDING[gpu.vendor]} is not set to hide it."
        )
    return f"this build of llama.cpp runs on the processor only. {_SLOWER} To use it, run: {_build_line(gpu, has_nvcc)}"


def _without_nvml(gpu: SeenGpu) -> str:
    """NVIDIA's driver does not answer: it is not installed, not loaded, or out of this container's reach."""
    if gpu.module == "nvidia":
        return (
            f"its driver runs but does not answer this program. {_SLOWER} In a container, start it with access to the"
            " GPU (docker run --gpus all); else run nvidia-smi, which says what is wrong."
        )
    instead = f" ({gpu.module} runs instead, which cannot compute)" if gpu.module in _FREE_MODULES["NVIDIA"] else ""
    return f"NVIDIA's driver is not there{instead}. {_SLOWER} Install it, restart, and run: ./starling setup"


def _build_line(gpu: SeenGpu, has_nvcc: bool) -> str:
    """What builds for this GPU: CUDA needs NVIDIA's compiler; Vulkan works for either vendor."""
    flag = "-DGGML_CUDA=on" if gpu.vendor == "NVIDIA" and has_nvcc else "-DGGML_VULKAN=on"
    return f'CMAKE_ARGS="{flag}" pip install --force-reinstall --no-deps --no-cache-dir {_pinned()}'


def _pinned() -> str:
    try:
        return f"llama-cpp-python=={version('llama-cpp-python')}"
    except PackageNotFoundError:
        return "llama-cpp-python"
