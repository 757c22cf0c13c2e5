"""What the GPU does in a plan, when that is less than its owner would expect: one sentence with the bytes behind it.

Pure. Never chooses: it explains a choice.
"""

from __future__ import annotations

from core.device import Device, DeviceKind, Machine
from core.metamodel.candidates import candidates
from core.metamodel.fit import Fit, file_bytes, kv_bytes_per_token, overhead_bytes
from core.metamodel.goal import Goal, Limits
from core.model_card import ModelCard
from core.plan import Plan

_GB = 1e9


def gpu_shortfall(card: ModelCard, machine: Machine, *, plan: Plan, limits: Limits, fit: Fit) -> str:
    """Why some or all layers of this plan are computed by the processor though there is a GPU; empty when none are,
    when there is no GPU, or when the processor was simply predicted to be faster."""
    gpu = next((device for device in machine.devices if device.kind is not DeviceKind.CPU), None)
    if gpu is None or plan.gpu_layers > card.layers:
        return ""
    needed = whole_bytes(plan, card, gpu=gpu)
    numbers = f"it needs {needed / _GB:.1f} GB and {_free(plan, machine, gpu=gpu) / _GB:.1f} GB are free there"
    help_ = "Close programs that use the GPU, or serve a smaller model."
    if plan.gpu_layers:
        part = f"{plan.gpu_layers} of {card.layers + 1} layers"
        return f"Only {part} of {card.title} fit on your {gpu.name}: {numbers}. The rest runs on the processor. {help_}"
    if candidates(card, gpu, machine=machine, goal=Goal(limits=limits), fit=fit):
        return ""
    return f"{card.title} does not fit on your {gpu.name}: {numbers}. It runs on the processor, slower. {help_}"


def whole_bytes(plan: Plan, card: ModelCard, *, gpu: Device) -> int:
    """What the plan would take with every layer on the GPU."""
    cache = kv_bytes_per_token(card, plan.kv_type) * plan.slots * plan.slot_context_tokens
    return round(file_bytes(card, plan.quantization) + cache) + overhead_bytes(gpu)


def _free(plan: Plan, machine: Machine, *, gpu: Device) -> int:
    names = {gpu.device_id, *plan.more_devices}
    return sum(device.free_bytes for device in machine.devices if device.device_id in names)
