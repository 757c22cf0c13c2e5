"""Which plans are worth predicting: whole ways to serve a model here, pruned by fit and by what can't pay.

Pure. Never predicts a speed and never tries a plan. A dimension more is one entry in DIMENSIONS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace as _replace

from core.device import Device, DeviceKind, Machine
from core.metamodel.abilities import ABILITIES, LLAMA, TORCH, abilities_of, serves, types_of
from core.metamodel.fit import HEADROOM_BYTES, Fit, file_bytes, kv_bytes_per_token, need, offload_share, overhead_bytes
from core.metamodel.goal import Goal, Limits, kl_budget
from core.metamodel.quantizations import kl_divergence
from core.model_card import ModelCard
from core.plan import Plan

MAX_CANDIDATES = 500
MIN_OFFLOAD = 0.2
_SLOTS = (4, 2, 1, 8, 16, 32)
_GPU_CHUNKS = (512, 256, 128)
_CPU_CHUNKS = (128, 64)
_WHOLE = 0
EXACT = "F16"
# A KV type of fewer bits is worth a look where the F16 cache is at least this share of the weights: for want of memory,
# or on a GPU where as much of it is read in each step (on processors unpacking it costs what its bytes save).
_LEAST_CACHE = {EXACT: 0.0, "Q8_0": 0.05, "Q4_0": 0.2}
_MUCH_CACHE = 0.2
# Guessing ahead fills rows that a full batch needs itself.
_MOST_DRAFTING_SLOTS = 4
_LEAST_FORETOLD = 0.2


class Asked(msgspec.Struct, frozen=True):
    """What the plans are for: this model on this device of this machine, towards this goal."""

    card: ModelCard
    device: Device
    machine: Machine
    goal: Goal

    @property
    def on_cpu(self) -> bool:
        """Whether the processor computes."""
        return self.device.kind is DeviceKind.CPU


class Dimension(msgspec.Struct, frozen=True):
    """A field of the plan, and the values worth trying, given those of the dimensions before it; the usual one first,
    which wins where nothing tells them apart."""

    field: str
    options: Callable[[Plan, Asked], Sequence[Any]]


class Placed(msgspec.Struct, frozen=True):
    """A plan, the bytes that it needs on its first device, and whether it fits there."""

    plan: Plan
    needed_bytes: int
    fits: bool = True


def candidates(card: ModelCard, device: Device, *, machine: Machine, goal: Goal, fit: Fit) -> list[Plan]:
    """The plans of `placed`."""
    return [found.plan for found in placed(card, device, machine=machine, goal=goal, fit=fit)]


def placed(card: ModelCard, device: Device, *, machine: Machine, goal: Goal, fit: Fit) -> list[Placed]:
    """Plans that fit the device's free memory (and the host's, for the layers left there), at most 500. Those split
    over several GPUs are found once, with the first GPU of its backend."""
    asked = Asked(card, device, machine, goal)
    room = _Room(device, _neighbours(device, machine), goal.limits, fit)
    plans = [_plain(asked)]
    for dimension in DIMENSIONS:
        plans = [further for plan in plans for further in _spread(plan, dimension, asked=asked)]
    found: list[Placed] = []
    whole: set[tuple[object, ...]] = set()
    for plan in _thinned(plans, asked):
        if plan.kv_type != EXACT and _room_key(plan) in whole and not _reads_much_cache(plan, asked):
            continue
        fitting = _placed(plan, card, room=room)
        if fitting is None or not _host_fits(fitting.plan, asked):
            continue
        found.append(fitting)
        if fitting.plan is plan and fitting.needed_bytes + HEADROOM_BYTES <= device.free_bytes:
            whole.add(_room_key(plan))
    return found


def _room_key(plan: Plan) -> tuple[object, ...]:
    """What a plan's memory depends on, but for the type of its cache."""
    return plan.runtime, plan.quantization, plan.slots, plan.prefill_chunk, plan.draft_tokens


def _plain(asked: Asked) -> Plan:
    card, limits = asked.card, asked.goal.limits
    return Plan(
        model=card.model,
        runtime=LLAMA,
        quantization=card.source_quantization,
        slots=1,
        slot_context_tokens=_context(asked),
        gpu_layers=0 if asked.on_cpu else card.layers + 1,
        threads=limits.threads or max(1, asked.machine.cpu_cores - 1),
        device_id=asked.device.device_id,
    )


def _context(asked: Asked) -> int:
    """What the limits say, or more where the usual job would not fit into it; never beyond the model's own."""
    mix, context = asked.goal.mix, asked.goal.limits.slot_context_tokens
    while context < mix.prompt_tokens + 2 * mix.output_tokens:
        context *= 2
    return min(context, asked.card.context_tokens)


def _spread(plan: Plan, dimension: Dimension, *, asked: Asked) -> list[Plan]:
    name, values = dimension.field, dimension.options(plan, asked)
    now = getattr(plan, name)
    if len(values) == 1 and values[0] == now:
        return [plan]
    return [plan if v == now else _replace(plan, **{name: v}) for v in values]


def _runtimes(_: Plan, asked: Asked) -> list[str]:
    device, torch = asked.device, asked.machine.torch
    return [name for name in ABILITIES if serves(name, asked.card, device=device, torch=torch)]


def _quantizations(plan: Plan, asked: Asked) -> Sequence[str]:
    return types_of(plan.runtime, asked.card)


def _slots(plan: Plan, asked: Asked) -> list[int]:
    """No more than are used at twice the usual number of jobs; torch only where a large batch pays for its launches."""
    most = min(asked.goal.limits.max_slots, max(1, round(2 * asked.goal.mix.concurrent)))
    counts = [n for n in _SLOTS if n <= most] or [1]
    return [max(counts)] if plan.runtime == TORCH else counts


def _kv_types(plan: Plan, asked: Asked) -> Sequence[str]:
    """The exact type alone where the cache is small beside the weights: fewer bits would bring nothing."""
    card = asked.card
    cache = kv_bytes_per_token(card, EXACT) * plan.slots * plan.slot_context_tokens
    share = cache / file_bytes(card, plan.quantization)
    return [name for name in abilities_of(plan.runtime).kv_types if share >= _LEAST_CACHE[name]]


def _chunks(plan: Plan, asked: Asked) -> Sequence[int]:
    """A slot alone holds up nobody with a long chunk."""
    sizes = _CPU_CHUNKS if asked.on_cpu else _GPU_CHUNKS
    fitting = [size for size in sizes if size <= plan.slot_context_tokens] or [plan.slot_context_tokens]
    return [fitting[0], _WHOLE] if plan.slots == 1 else [*fitting, _WHOLE]


def _batchings(plan: Plan, _: Asked) -> Sequence[bool]:
    """Batches that start together are only tried with whole prompts: chunks are there for those who are running."""
    return (True, False) if plan.slots > 1 and plan.prefill_chunk == _WHOLE else (True,)


def _prefix_caches(plan: Plan, _: Asked) -> Sequence[bool]:
    """Always on where it is served: it costs nothing where prompts do not begin alike, and only with it is it seen
    whether they do."""
    return (abilities_of(plan.runtime).caches_prefixes,)


def _reads_much_cache(plan: Plan, asked: Asked) -> bool:
    """Whether a cache of fewer bytes would make steps shorter."""
    mix = asked.goal.mix
    busy = max(1.0, min(float(plan.slots), mix.concurrent))
    read = kv_bytes_per_token(asked.card, EXACT) * busy * (mix.prompt_tokens + mix.output_tokens / 2)
    return not asked.on_cpu and read >= _MUCH_CACHE * file_bytes(asked.card, plan.quantization)


def _is_usual(plan: Plan, asked: Asked) -> bool:
    """Prompts read as they usually are: what is rare by itself is not tried together with what else is rare."""
    return plan.prefill_chunk == _chunks(plan, asked)[0]


def _unified(plan: Plan, asked: Asked) -> Sequence[bool]:
    """One KV for all slots makes copies of a shared prefix free, and every look at it longer."""
    is_shared = plan.prefix_cache and asked.goal.mix.shared_prefix_tokens > 0 and plan.slots > 1
    pays = is_shared and _is_usual(plan, asked) and abilities_of(plan.runtime).unifies
    return (False, True) if pays else (False,)


def _drafts(plan: Plan, asked: Asked) -> Sequence[int]:
    comes_true = asked.goal.mix.foretold >= _LEAST_FORETOLD and plan.slots <= _MOST_DRAFTING_SLOTS
    pays = comes_true and _is_usual(plan, asked) and not plan.unified_kv
    return abilities_of(plan.runtime).drafts if pays else (0,)


def _flash(plan: Plan, asked: Asked) -> Sequence[bool]:
    """A quantized cache needs the flash kernels; without them is tried once for each type and count of slots."""
    is_weak = asked.device.backend.upper() in abilities_of(plan.runtime).weak_flash
    is_plain = plan.kv_type == EXACT and not plan.unified_kv and not plan.draft_tokens
    return (True, False) if is_weak and is_plain and _is_usual(plan, asked) else (True,)


DIMENSIONS: tuple[Dimension, ...] = (
    Dimension("runtime", _runtimes),
    Dimension("quantization", _quantizations),
    Dimension("slots", _slots),
    Dimension("kv_type", _kv_types),
    Dimension("prefill_chunk", _chunks),
    Dimension("continuous_batching", _batchings),
    Dimension("prefix_cache", _prefix_caches),
    Dimension("unified_kv", _unified),
    Dimension("draft_tokens", _drafts),
    Dimension("flash_attention", _flash),
)


def _thinned(plans: list[Plan], asked: Asked) -> list[Plan]:
    """At most 500: of what loses more quality than is asked for, only the usual ways stay, and then none."""
    if len(plans) <= MAX_CANDIDATES:
        return plans
    budget, source = kl_budget(asked.goal.quality), asked.card.source_quantization
    good = [p for p in plans if kl_divergence(p.quantization, source=source, kv=p.kv_type) <= budget]
    usual = [p for p in plans if p not in set(good) and p.kv_type == EXACT and p.continuous_batching]
    return [*good, *usual][:MAX_CANDIDATES]


class _Room(msgspec.Struct, frozen=True):
    """Where a plan may go: its device, further GPUs of the same backend, and what may be used of each."""

    device: Device
    neighbours: tuple[Device, ...]
    limits: Limits
    fit: Fit

    def takes(self, plan: Plan, card: ModelCard) -> Placed | None:
        """The plan, if every device of it has memory for its share."""
        if not plan.more_devices:
            return self._takes_alone(plan, card)
        devices = [self.device, *(d for d in self.neighbours if d.device_id in plan.more_devices)]
        needed = [self.fit.needed_bytes(plan, card, device=device) for device in devices]
        if self.limits.max_bytes is not None and sum(needed) > self.limits.max_bytes:
            return None
        share = self.limits.memory_percent / 100
        is_room = all(self.fit.fits(n, device, share=share) for n, device in zip(needed, devices, strict=True))
        return Placed(plan, needed[0]) if is_room else None

    def _takes_alone(self, plan: Plan, card: ModelCard) -> Placed | None:
        needed = self.fit.needed_bytes(plan, card, device=self.device)
        if self.limits.max_bytes is not None and needed > self.limits.max_bytes:
            return None
        is_room = self.fit.fits(needed, self.device, share=self.limits.memory_percent / 100)
        return Placed(plan, needed) if is_room else None


def _neighbours(device: Device, machine: Machine) -> tuple[Device, ...]:
    alike = [d for d in machine.devices if d.kind is DeviceKind.GPU and d.backend == device.backend]
    return tuple(alike[1:]) if alike and alike[0] == device else ()


def _placed(plan: Plan, card: ModelCard, *, room: _Room) -> Placed | None:
    """The plan whole on its device, else split over all GPUs of its kind, else with as many layers on GPUs as fit;
    None when too few do."""
    whole = room.takes(plan, card)
    if whole is not None:
        return whole
    if room.device.kind is DeviceKind.CPU or not abilities_of(plan.runtime).splits:
        return None
    split = _split(plan, room)
    over_all = room.takes(split, card) if split.more_devices else None
    if over_all is not None:
        return over_all
    for layers in range(card.layers, 0, -max(1, card.layers // 12)):
        partial = _replace(split, gpu_layers=layers)
        if offload_share(partial, card) < MIN_OFFLOAD:
            return None
        found = room.takes(partial, card)
        if found is not None:
            return found
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
    return _replace(plan, more_devices=names, layer_split=shares)


def _host_fits(plan: Plan, asked: Asked) -> bool:
    """Layers left on the host need its memory; torch reads all weights there before they go to the GPU."""
    machine = asked.machine
    if asked.on_cpu or (plan.runtime == LLAMA and plan.gpu_layers > asked.card.layers):
        return True
    host_bytes = need(plan, asked.card, device=asked.device).host_bytes
    if plan.runtime == TORCH:
        host_bytes += file_bytes(asked.card, plan.quantization)
    free = next((d.free_bytes for d in machine.devices if d.kind is DeviceKind.CPU), machine.ram_bytes // 2)
    return host_bytes <= 0.9 * free
