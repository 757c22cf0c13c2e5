"""A plan that its owner keeps: what stands against it now, and what they are told when it cannot be served.

Pure. Never chooses another plan and never forgets a kept one.
"""

from __future__ import annotations

from core.device import Machine
from core.metamodel.fit import Fit
from core.model_card import ModelCard
from core.plan import Plan, plan_words

_GIB = 1 << 30


def pin_hindrance(plan: Plan, machine: Machine, *, card: ModelCard, fit: Fit) -> str:
    """Why this plan cannot be served on this machine now, as a sentence; empty when it can."""
    wanted = (plan.device_id, *plan.more_devices)
    devices = {device.device_id: device for device in machine.devices if device.device_id in wanted}
    if len(devices) < len(wanted):
        return "a device that it runs on is not in this computer."
    for device in devices.values():
        needed = fit.needed_bytes(plan, card, device=device)
        if not fit.fits(needed, device):
            free = f"{device.free_bytes / _GIB:.1f} GiB are free on {device.name}"
            if needed <= device.free_bytes:
                return f"it ran out of memory before, and only {free}."
            return f"it needs {needed / _GIB:.1f} GiB and {free}."
    return ""


def pin_notice(plan: Plan, hindrance: str) -> str:
    """What the owner is told while the kept plan is not served."""
    return (
        f"The plan that you keep for {plan.model}, {plan_words(plan)}, is not served now: {hindrance} Starling chose "
        f"another one. It comes back when it fits; `starling plan {plan.model} --unpin` lets it go for good."
    )
