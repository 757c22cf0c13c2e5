"""What each runtime can be asked for here: a runtime more is one entry in this table.

Pure. Says what may be asked, never what pays; what a runtime ignores is not offered, so that no plan promises it.
"""

from __future__ import annotations

import msgspec

from core.device import Device, DeviceKind
from core.metamodel.quantizations import makeable
from core.model_card import ModelCard

LLAMA, TORCH = "llama.cpp", "torch"
_TORCH_TYPES = ("F16", "BF16")
_TORCH_BACKENDS = ("CUDA", "ROCM", "HIP", "MTL", "METAL")
# Of what transformers reads from a GGUF, the families that the runtime's own laws are tested on.
_TORCH_FAMILIES = ("llama", "qwen2", "qwen3", "gemma2")


class Abilities(msgspec.Struct, frozen=True):
    """kv_types: of the cache, the exact one first. drafts: tokens that may be guessed ahead. splits: over several
    GPUs, or in part on the processor. unifies: one KV for all slots. weak_flash: backends where attention without the
    flash kernels may be faster. launch_s: seconds a layer and step beyond what the roofline knows (llama.cpp's)."""

    name: str
    kv_types: tuple[str, ...]
    drafts: tuple[int, ...] = (0,)
    splits: bool = False
    unifies: bool = False
    caches_prefixes: bool = True
    weak_flash: tuple[str, ...] = ()
    launch_s: float = 0.0


# torch computes in one precision, its KV too, on one device; it guesses nothing ahead and has one way of attention.
# Each layer is some thirty kernels launched from Python, about 8 us apiece: assumed, not measured on a GPU.
ABILITIES = {
    LLAMA: Abilities(
        LLAMA, ("F16", "Q8_0", "Q4_0"), drafts=(0, 4), splits=True, unifies=True, weak_flash=("CPU", "VULKAN", "SYCL")
    ),
    TORCH: Abilities(TORCH, ("F16",), launch_s=240e-6),
}


def abilities_of(runtime: str) -> Abilities:
    """The runtime's row; one that the table lacks is taken to do what every runtime must."""
    return ABILITIES.get(runtime) or Abilities(runtime, ("F16",))


def serves(runtime: str, card: ModelCard, *, device: Device, torch: str) -> bool:
    """Whether this runtime can serve this model on this device. torch: its version, empty where it isn't installed.

    torch is left out on processors: it was a third to half as fast as llama.cpp there at 1 to 16 sequences.
    """
    if runtime != TORCH:
        return True
    is_reached = device.kind is not DeviceKind.CPU and device.backend.upper() in _TORCH_BACKENDS
    return bool(torch) and is_reached and card.architecture in _TORCH_FAMILIES and bool(types_of(runtime, card))


def types_of(runtime: str, card: ModelCard) -> tuple[str, ...]:
    """The quantizations that this runtime may load of the model: those on disk and those that can be made here."""
    here = tuple(variant.quantization for variant in card.variants)
    every = tuple(dict.fromkeys((*makeable(card.source_quantization), *here)))
    return every if runtime != TORCH else tuple(name for name in every if name in _TORCH_TYPES)
