"""Which plans are worth predicting: a small set of whole ways to serve a model here, pruned by fit.

Pure. Never predicts a speed and never tries a plan.
"""

from __future__ import annotations

import msgspec

from core.device import Device, DeviceKind, Machine
from core.metamodel.fit import Fit, need, offload_share, overhead_bytes
from core.metamodel.goal import Limits
from core.metamodel.quantizations import makeable
from core.model_card import ModelCard
from core.plan import Plan

_SLOTS = (1, 2, 4, 8)
_KV_TYPES = ("F16", "Q8_0")
_GPU_CHUNKS = (256, 512)
_CPU_CHUNKS = (64, 128)
MIN_OFFLOAD = 0.2


class _Room(msgspec.Struct, frozen=True):
    """Where a plan may go: its device, further GPUs of the same backend, and what may be used of each."""

    device: Device
    neighbours: tuple[Device, ...]
    limits: Limits
    fit: Fit

    def takes(self, plan: Plan, card: ModelCard) -> bool:
        """Whether every device of the plan has memory for its share."""
        devices = [self.device, *(d for d in self.neighbours if d.device_id in plan.more_devices)]
        needed = [self.fit.needed_bytes(plan, card, device=device) for device in devices]
        if self.limits.max_bytes is not None and sum(needed) > self.limits.max_bytes:
            return False
        share = self.limits.memory_percent / 100
        return all(self.fit.fits(n, device, share=share) for n, device in zip(needed, devices, strict=True))


def candidates(card: ModelCard, device: Device, *, machine: Machine, limits: Limits, fit: Fit) -> list[Plan]:
    """Plans that fit the device's free memory (and the host's, for the layers left there), most bits first. Those
    split over several GPUs are found once, with the first GPU of its backend."""
    room = _Room(device, _neighbours(device, machine), limits, fit)
    plans = []
    for first in _skeletons(card, device, machine=machine, limits=limits):
        plan = _offloaded(first, card, room=room)
        if plan is not None and _host_fits(plan, card, device=device, machine=machine):
            plans.append(plan)
    return plans


def _neighbours(device: Device, machine: Machine) -> tuple[Device, ...]:
    alike = [d for d in machine.devices if d.kind is DeviceKind.GPU and d.backend == device.backend]
    return tuple(alike[1:]) if alike and alike[0] == device else ()


def _skeletons(card: ModelCard, device: Device, *, machine: Machine, limits: Limits) -> list[Plan]:
    on_cpu = device.kind is DeviceKind.CPU
    plain = Plan(
        model=card.model,
        runtime="llama.cpp",
        quantization=card.source_quantization,
        slots=1,
        slot_context_tokens=min(limits.slot_context_tokens, card.context_tokens),
        gpu_layers=0 if on_cpu else card.layers + 1,
        threads=limits.threads or max(1, machine.cpu_cores - 1),
        device_id=device.device_id,
    )
    return [
        msgspec.structs.replace(plain, quantization=name, kv_type=kv, slots=slots, prefill_chunk=chunk)
        for name in dict.fromkeys((*makeable(card.source_quantization), *(v.quantization for v in card.variants)))
        for kv in _KV_TYPES
        for slots in _SLOTS
        if slots <= limits.max_slots
        for chunk in (_CPU_CHUNKS if on_cpu else _GPU_CHUNKS)
    ]


def _offloaded(plan: Plan, card: ModelCard, *, room: _Room) -> Plan | None:
    """The plan whole on its device, else split over all GPUs of its kind, else with as many layers on GPUs as fit;
    None when too few do."""
    if room.takes(plan, card):
        return plan
    if room.device.kind is DeviceKind.CPU:
        return None
    split = _split(plan, room)
    if split.more_devices and room.takes(split, card):
        return split
    for layers in range(card.layers, 0, -max(1, card.layers // 12)):
        partial = msgspec.structs.replace(split, gpu_layers=layers)
        if offload_share(partial, card) < MIN_OFFLOAD:
            return None
        if room.takes(partial, card):
            return partial
    return None


def _split(plan: Plan, room: _Room) -> Plan:
    """The plan over its device and its neighbours, the layers by free memory beside what each driver takes."""
    if not room.neighbours:
        return plan
    spare = [max(0, d.free_bytes - overhead_bytes(d)) for d in (room.device, *room.neighbours)]
    if 0 in spare:
        return plan
    shares = tuple(bytes_ / sum(spare) for bytes_ in spare)
    names = tuple(d.device_id for d in room.neighbours)
    return msgspec.structs.replace(plan, more_devices=names, layer_split=shares)


def _host_fits(plan: Plan, card: ModelCard, *, device: Device, machine: Machine) -> bool:
    host_bytes = need(plan, card, device=device).host_bytes
    free = next((d.free_bytes for d in machine.devices if d.kind is DeviceKind.CPU), machine.ram_bytes // 2)
    return host_bytes <= 0.9 * free
