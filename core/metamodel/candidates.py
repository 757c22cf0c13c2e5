"""Which plans are worth predicting: a small set of whole ways to serve a model here, pruned by fit.

Pure. Never predicts a speed and never tries a plan.
"""

from __future__ import annotations

import msgspec

from core.device import Device, DeviceKind, Machine
from core.metamodel.fit import Fit, need, offload_share
from core.metamodel.goal import Limits
from core.metamodel.quantizations import makeable
from core.model_card import ModelCard
from core.plan import Plan

_SLOTS = (1, 2, 4, 8)
_KV_TYPES = ("F16", "Q8_0")
_GPU_CHUNKS = (256, 512)
_CPU_CHUNKS = (64, 128)
MIN_OFFLOAD = 0.2


def candidates(card: ModelCard, device: Device, *, machine: Machine, limits: Limits, fit: Fit) -> list[Plan]:
    """Plans that fit the device's free memory (and the host's, for the layers left there), most bits first."""
    plans = []
    for first in _skeletons(card, device, machine=machine, limits=limits):
        plan = _offloaded(first, card, device=device, limits=limits, fit=fit)
        if plan is not None and _host_fits(plan, card, device=device, machine=machine):
            plans.append(plan)
    return plans


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


def _offloaded(plan: Plan, card: ModelCard, *, device: Device, limits: Limits, fit: Fit) -> Plan | None:
    """The plan with as many layers on the device as fit, or None when too few do."""
    if _device_fits(plan, card, device=device, limits=limits, fit=fit):
        return plan
    if device.kind is DeviceKind.CPU:
        return None
    for layers in range(card.layers, 0, -max(1, card.layers // 12)):
        partial = msgspec.structs.replace(plan, gpu_layers=layers)
        if offload_share(partial, card) < MIN_OFFLOAD:
            return None
        if _device_fits(partial, card, device=device, limits=limits, fit=fit):
            return partial
    return None


def _device_fits(plan: Plan, card: ModelCard, *, device: Device, limits: Limits, fit: Fit) -> bool:
    needed = fit.needed_bytes(plan, card, device=device)
    if limits.max_bytes is not None and needed > limits.max_bytes:
        return False
    return fit.fits(needed, device, share=limits.memory_percent / 100)


def _host_fits(plan: Plan, card: ModelCard, *, device: Device, machine: Machine) -> bool:
    host_bytes = need(plan, card, device=device).host_bytes
    free = next((d.free_bytes for d in machine.devices if d.kind is DeviceKind.CPU), machine.ram_bytes // 2)
    return host_bytes <= 0.9 * free
