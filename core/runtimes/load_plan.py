"""What a plan takes before it is loaded: the model laid out as the plan says, with nothing allocated.

Runs in a throw-away child. Never loads weights: llama.cpp simulates buffers (no_alloc), whose compute and output parts
it reports; weights and KV are added up from the layers' places.

Against real loads: within .01 % on the processor for a synthetic 134M in Q4_K_M, Q8_0 and F16, at .02 CPU seconds; to
the byte for a whole offload to Mesa's lavapipe and .3 MB too much for a split (`python packaging/vulkan_check.py`).
"""

from __future__ import annotations

import ctypes
import re
from contextlib import closing
from pathlib import Path

from llama_cpp._ctypes_extensions import load_shared_library
from llama_cpp.llama_cpp import _base_path

from core.runtimes.llama_context import LlamaContext
from core.runtimes.llama_log import HOST, LlamaLog, device_of
from core.runtimes.llama_model import LlamaModel
from core.runtimes.runtime import RuntimeFault
from core.worker.messages import FaultKind, MeasurePlan, PlanMeasured

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_BLOCK = re.compile(r"^blk\.(\d+)\.")


class _FileParams(ctypes.Structure):
    """struct gguf_init_params of gguf.h."""

    _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]


def measure_plan(command: MeasurePlan) -> PlanMeasured:
    """Bytes by device that this plan of this file takes; seconds at most. Raises RuntimeFault."""
    with (
        closing(LlamaLog()) as log,
        closing(LlamaModel(command.path, log=log, plan=command.plan, is_simulated=True)) as model,
        closing(LlamaContext(model, command.plan, log=log)),
    ):
        needed = dict(log.bytes_by_device)
        _add(needed, _weights(tensor_bytes(command.path), log.layers))
        caches = len(log.cache_layers) or 1
        _add(needed, [(device, log.cache_bytes / caches) for device in log.cache_layers])
    return PlanMeasured({device: round(size) for device, size in needed.items()})


def tensor_bytes(path: str) -> dict[str, int]:
    """The size of every tensor in the file and its other shards, by name. Raises RuntimeFault (BAD_FILE)."""
    sizes: dict[str, int] = {}
    for shard in _shards(Path(path)):
        sizes |= _sizes_in(shard)
    return sizes


def _weights(sizes: dict[str, int], layers: dict[int, str]) -> list[tuple[str, float]]:
    """Each tensor's place: its layer's device; the output with the last layer; the embedding in the host's memory."""
    output = layers.get(max(layers, default=0), HOST)
    placed: list[tuple[str, float]] = []
    for name, size in sizes.items():
        block = _BLOCK.match(name)
        if block is not None:
            placed.append((layers.get(int(block[1]), HOST), size))
        elif name.startswith("token_embd"):
            placed.append((HOST, size))
            # a model without an output matrix computes with its embedding, of which the GPU gets a copy
            if "output.weight" not in sizes and output != HOST:
                placed.append((output, size))
        else:
            placed.append((output if name.startswith("output") else HOST, size))
    return placed


def _add(needed: dict[str, int], placed: list[tuple[str, float]]) -> None:
    for device, size in placed:
        name = device_of(device)
        needed[name] = needed.get(name, 0) + round(size)


def _shards(path: Path) -> list[Path]:
    found = _SHARD.search(path.name)
    if found is None:
        return [path]
    stem = path.name[: found.start()]
    return [path.with_name(f"{stem}-{number:05d}-of-{found[2]}.gguf") for number in range(1, int(found[2]) + 1)]


def _sizes_in(path: Path) -> dict[str, int]:
    library = load_shared_library("ggml-base", _base_path)
    library.gguf_init_from_file.restype = ctypes.c_void_p
    library.gguf_init_from_file.argtypes = [ctypes.c_char_p, _FileParams]
    library.gguf_get_n_tensors.restype = ctypes.c_int64
    library.gguf_get_n_tensors.argtypes = [ctypes.c_void_p]
    library.gguf_get_tensor_name.restype = ctypes.c_char_p
    library.gguf_get_tensor_size.restype = ctypes.c_size_t
    for ask in (library.gguf_get_tensor_name, library.gguf_get_tensor_size):
        ask.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    library.gguf_free.argtypes = [ctypes.c_void_p]
    handle = library.gguf_init_from_file(str(path).encode(), _FileParams(True, None))
    if not handle:
        raise RuntimeFault(FaultKind.BAD_FILE, "The model file cannot be opened: it is no GGUF file.")
    try:
        numbers = range(library.gguf_get_n_tensors(handle))
        return {
            library.gguf_get_tensor_name(handle, n).decode("utf-8", "replace"): library.gguf_get_tensor_size(handle, n)
            for n in numbers
        }
    finally:
        library.gguf_free(handle)
