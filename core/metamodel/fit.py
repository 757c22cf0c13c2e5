"""Does a plan fit? Arithmetic on free memory, corrected by what loads took here, and a memory of what did not.

Pure: bytes in, bytes out. Never asks the hardware, never guesses from names.
The rule (weights + KV + about 0.3 GiB per GPU <= 98.5 % of free memory) was right on 99.6 % of 1,480 published cells.
"""

from __future__ import annotations

from functools import cached_property
from math import inf

import msgspec

from core.device import Device, DeviceKind
from core.memory import MeasuredLoad, MemoryRecord, device_key, shape_of
from core.metamodel.quantizations import kv_type, quantization
from core.model_card import ModelCard
from core.plan import Plan

GPU_OVERHEAD_BYTES = 322_122_547
CPU_OVERHEAD_BYTES = 16 << 20
FREE_SHARE = 0.985
HEADROOM_BYTES = 512 << 20
# A whole prompt is read in passes of so many tokens (core.runtimes.llama_context).
WHOLE_PASS_TOKENS = 512
# A failed load is not tried again for a little more free memory: readings of it differ by that much from look to look.
RETRY_BYTES = 64 << 20


class Need(msgspec.Struct, frozen=True):
    """What a plan takes on its device and in the host's memory beside it (layers that were not offloaded)."""

    device_bytes: int
    host_bytes: int


class Fit(msgspec.Struct, frozen=True, dict=True):
    """Says what fits, by what loads took here before and which of them failed; hundreds of plans ask one after another,
    so the record is sorted out once."""

    record: MemoryRecord = MemoryRecord()

    def needed_bytes(self, plan: Plan, card: ModelCard, *, device: Device) -> int:
        """Bytes on this device: what this very shape took before, else arithmetic with what was learned of the model
        here (never trusted below half of the plain arithmetic). Never less than the count with which it failed."""
        failed = self._ran_out.get((device_key(device), plan.model), {}).get(shape_of(plan), 0) if self._ran_out else 0
        known = self.measured(plan, device)
        if known is not None:
            return max(known.measured_bytes, failed)
        plain = need(plan, card, device=device).device_bytes
        return max(plain // 2, plain + self._learned_bytes(card.model, device), failed)

    def total_bytes(self, plan: Plan, card: ModelCard, *, device: Device) -> int:
        """Bytes on all devices of the plan together; further ones are taken to be of the first one's kind."""
        if not plan.more_devices:
            return self.needed_bytes(plan, card, device=device)
        places = (plan.device_id, *plan.more_devices)
        each = (msgspec.structs.replace(device, device_id=place) for place in places)
        return sum(need(plan, card, device=d).device_bytes for d in each)

    def measured(self, plan: Plan, device: Device) -> MeasuredLoad | None:
        """The count of a plan of this model and shape on this device, if there was one."""
        loads = self._loads.get((device_key(device), plan.model))
        return loads.get(shape_of(plan)) if loads else None

    def fits(self, needed_bytes: int, device: Device, *, share: float = FREE_SHARE) -> bool:
        """True when the device has that much free and nothing alike has failed with about as much free memory."""
        if needed_bytes > share * device.free_bytes:
            return False
        return needed_bytes < self._least_failed(device)

    def _learned_bytes(self, model: str, device: Device) -> int:
        """An additive correction that moves half way towards each load that was counted."""
        learned = 0.0
        for load in self._loads.get((device_key(device), model), {}).values():
            learned += 0.5 * (load.measured_bytes - load.predicted_bytes - learned)
        return round(learned)

    def _least_failed(self, device: Device) -> float:
        """The least that failed here with about as much free memory as now."""
        place = (device_key(device), device.free_bytes)
        if place not in self._failed:
            known = [f for f in self.record.failures if f.device == place[0]]
            alike = [f.needed_bytes for f in known if device.free_bytes <= f.free_bytes + RETRY_BYTES]
            self._failed[place] = min(alike, default=inf)
        return self._failed[place]

    @cached_property
    def _failed(self) -> dict[tuple[str, int], float]:
        """What _least_failed found, by device and free memory."""
        return {}

    @cached_property
    def _ran_out(self) -> dict[tuple[str, str], dict[str, int]]:
        """The largest count of each plan that failed, by device and model, then by shape."""
        found: dict[tuple[str, str], dict[str, int]] = {}
        for failure in self.record.failures:
            if failure.shape:
                shapes = found.setdefault((failure.device, failure.model), {})
                shapes[failure.shape] = max(failure.needed_bytes, shapes.get(failure.shape, 0))
        return found

    @cached_property
    def _loads(self) -> dict[tuple[str, str], dict[str, MeasuredLoad]]:
        """By device and model, then by shape, the oldest first."""
        found: dict[tuple[str, str], dict[str, MeasuredLoad]] = {}
        for load in self.record.loads:
            found.setdefault((load.device, load.model), {}).setdefault(load.shape, load)
        return found


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
    """The share of the weights on GPUs; llama.cpp counts the output layer as one more layer."""
    return min(1.0, plan.gpu_layers / (card.layers + 1))


def split_layers(plan: Plan, card: ModelCard) -> dict[str, int]:
    """How many layers each of the plan's GPUs takes, by llama.cpp's rule: layer i of n goes to the first device whose
    cumulated share exceeds i / n."""
    places = (plan.device_id, *plan.more_devices)
    layers = min(plan.gpu_layers, card.layers + 1)
    shares = plan.layer_split if len(plan.layer_split) == len(places) else (1.0,) * len(places)
    borders = [sum(shares[: i + 1]) / sum(shares) for i in range(len(places))]
    taken = dict.fromkeys(places, 0)
    for layer in range(layers):
        taken[next(p for p, border in zip(places, borders, strict=True) if layer / layers < border)] += 1
    return taken


def overhead_bytes(device: Device) -> int:
    """What a device takes beside the buffers that llama.cpp counts: its driver's context, and its modules."""
    return CPU_OVERHEAD_BYTES if device.kind is DeviceKind.CPU else GPU_OVERHEAD_BYTES


def need(plan: Plan, card: ModelCard, *, device: Device) -> Need:
    """Weights, KV and compute buffers of a plan: this device's share of them, and what stays in the host's memory."""
    weights = file_bytes(card, plan.quantization)
    cache = kv_bytes_per_token(card, plan.kv_type) * plan.slots * plan.slot_context_tokens
    buffers = _compute_bytes(plan, card)
    if device.kind is DeviceKind.CPU:
        return Need(round(weights + cache) + buffers + overhead_bytes(device), 0)
    here = offload_share(plan, card)
    if plan.more_devices:
        here = split_layers(plan, card).get(device.device_id, 0) / (card.layers + 1)
    on_device = here * (weights + cache) + overhead_bytes(device)
    return Need(round(on_device), round((1 - offload_share(plan, card)) * (weights + cache)) + buffers)


def _compute_bytes(plan: Plan, card: ModelCard) -> int:
    """Activations of one step and the logits, in float32; what llama.cpp reserves for the largest step."""
    read = plan.prefill_chunk or min(WHOLE_PASS_TOKENS, plan.slot_context_tokens)
    rows = max(read, plan.slots)
    return 4 * (rows * (6 * card.hidden + 2 * card.feed_forward) + plan.slots * card.vocabulary)
