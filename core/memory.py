"""What loads took here and which ones failed: the words of memory, folded from facts and kept over restarts.

Pure. Never asks the hardware and never decides: core.metamodel.fit reads this and does.
"""

from __future__ import annotations

import msgspec

from core.device import Device
from core.plan import Plan

MAX_FAILURES = 256
MAX_LOADS = 256


class FailedLoad(msgspec.Struct, frozen=True):
    """A load that failed for want of memory: what it needed on this device by our count, and what was free then.

    model and shape are the plan's: what it needs by a later count does not make it another plan.
    """

    device: str
    needed_bytes: int
    free_bytes: int
    model: str = ""
    shape: str = ""


class MeasuredLoad(msgspec.Struct, frozen=True):
    """What a plan of this shape takes on this device, by the library's own count, beside what arithmetic said."""

    device: str
    model: str
    shape: str
    predicted_bytes: int
    measured_bytes: int


class MemoryRecord(msgspec.Struct, frozen=True):
    """The newest failures and loads, the oldest first; bounded."""

    failures: tuple[FailedLoad, ...] = ()
    loads: tuple[MeasuredLoad, ...] = ()

    def with_failure(self, failure: FailedLoad) -> MemoryRecord:
        """One failure more; the oldest beyond 256 are forgotten."""
        return MemoryRecord((*self.failures, failure)[-MAX_FAILURES:], self.loads)

    def with_load(self, load: MeasuredLoad) -> MemoryRecord:
        """One load more, in the place of an older one of the same shape."""
        others = (known for known in self.loads if _cell(known) != _cell(load))
        return MemoryRecord(self.failures, (*others, load)[-MAX_LOADS:])


def device_key(device: Device) -> str:
    """The same device over restarts, whatever number its backend gives it today."""
    return f"{device.backend} {device.pci_id or device.name}"


def shape_of(plan: Plan) -> str:
    """Everything of a plan that decides how much memory it takes; plans of one model with one shape take the same."""
    layers = f"{plan.gpu_layers}" if not plan.more_devices else f"{plan.gpu_layers}/{plan.layer_split}"
    context = f"{plan.slots}x{plan.slot_context_tokens}"
    named = {"f": plan.flash_attention, "u": plan.unified_kv, "s": plan.steady}
    switches = "".join(letter for letter, is_on in named.items() if is_on)
    rows = f"+{plan.prefill_chunk}+{plan.draft_tokens}"
    return f"{plan.quantization} {plan.kv_type} {context} {rows} {layers} {switches}".strip()


def _cell(load: MeasuredLoad) -> tuple[str, str, str]:
    return load.device, load.model, load.shape
