"""Where torch computes: a plan's device as torch's own, its free memory, and what a lack of it looks like.

Never moves a plan to another device by itself: a GPU that torch cannot reach is a refusal that says so.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from core.plan import Plan
from core.runtimes.runtime import OutOfMemory, RuntimeFault
from core.worker.messages import FaultKind

# llama.cpp's names of devices; torch calls AMD's GPUs "cuda" as well.
_NVIDIA_OR_AMD = re.compile(r"(?:CUDA|ROCm|HIP)(\d+)")
_METAL = re.compile(r"(?:MTL|Metal|MPS)\d*")
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "INT8": torch.bfloat16}


def device_of(plan: Plan) -> torch.device:
    """The device that the plan names; the processor when no layer goes to a GPU. Raises RuntimeFault."""
    if plan.more_devices:
        raise RuntimeFault(FaultKind.BAD_REQUEST, "The torch runtime serves a model from one device, not from several.")
    if plan.gpu_layers <= 0:
        return torch.device("cpu")
    found = _NVIDIA_OR_AMD.fullmatch(plan.device_id)
    if found and torch.cuda.is_available() and int(found[1]) < torch.cuda.device_count():
        return torch.device("cuda", int(found[1]))
    if _METAL.fullmatch(plan.device_id) and torch.backends.mps.is_available():
        return torch.device("mps")
    sentence = f"This build of torch cannot use the device {plan.device_id or 'unnamed'}."
    raise RuntimeFault(FaultKind.BAD_REQUEST, sentence)


def type_of(plan: Plan) -> torch.dtype:
    """What the plan's quantization computes in. Raises RuntimeFault."""
    if plan.quantization not in TYPES:
        known = ", ".join(TYPES)
        raise RuntimeFault(FaultKind.BAD_REQUEST, f"The torch runtime serves {known}, not {plan.quantization}.")
    return TYPES[plan.quantization]


def free_bytes(device: torch.device) -> int:
    """What this device could still give, other programs counted."""
    match device.type:
        case "cuda":
            return int(torch.cuda.mem_get_info(device)[0]) + _reusable_bytes(device)
        case "mps":
            return max(0, int(torch.mps.recommended_max_memory()) - int(torch.mps.driver_allocated_memory()))
        case _:
            return int(psutil.virtual_memory().available)


def used_bytes(device: torch.device) -> int:
    """What torch holds of a GPU's memory by its own count; 0 for the processor, for which it keeps none."""
    match device.type:
        case "cuda":
            return int(torch.cuda.memory_reserved(device))
        case "mps":
            return int(torch.mps.driver_allocated_memory())
        case _:
            return 0


def release(device: torch.device) -> None:
    """Give back to the system what nothing holds any more; a model's parts hold each other."""
    gc.collect()
    match device.type:
        case "cuda":
            torch.cuda.empty_cache()
        case "mps":
            torch.mps.empty_cache()


@contextmanager
def memory_faults(device: torch.device, *, doing: str) -> Iterator[None]:
    """Turn a lack of memory into OutOfMemory with what was free just then."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not speaks_of_memory(error):
            raise
        where = "memory" if device.type == "cpu" else "the GPU's memory"
        raise OutOfMemory(f"{doing} does not fit into {where}.", free_bytes=free_bytes(device)) from error


def speaks_of_memory(error: Exception) -> bool:
    """Whether this is one of torch's ways of saying that memory has run out (OutOfMemoryError is a RuntimeError)."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _NO_MEMORY)


def _reusable_bytes(device: torch.device) -> int:
    return int(torch.cuda.memory_reserved(device)) - int(torch.cuda.memory_allocated(device))
