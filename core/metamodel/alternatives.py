"""What would change a choice: the same decision made again under other goals and on a roomier machine.

Pure. Nothing here is a rule of thumb: every sentence is a choice that was really made.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from core.device import DeviceKind, Machine
from core.job import QualityClass
from core.metamodel.choice import step_s
from core.metamodel.goal import Goal
from core.plan import Choice, Estimate, NoPlan, Plan, plan_words

Choose = Callable[[Machine, Goal], Choice | NoPlan]
GIB = 1 << 30
NEARLY = 1.02
_MORE_BYTES = tuple(round(GIB * step) for step in (0.25, 0.5, 1, 2, 4, 8, 16, 32))
_HALVINGS = 5
_JOBS = (1.0, 8.0)
_SHARED_SHARE = 0.8


def speed_words(tokens_per_s: float) -> str:
    """Whole tokens per second, with one decimal below 10 and never a bare 0."""
    if tokens_per_s >= 9.95:
        return f"{tokens_per_s:,.0f}"
    return f"{tokens_per_s:.1f}" if tokens_per_s >= 0.05 else f"{tokens_per_s:.1g}"


def together(plan: Plan, estimate: Estimate) -> float:
    """Tokens per second of all slots together."""
    return plan.slots / step_s(estimate, plan.slots)


class Change(msgspec.Struct, frozen=True):
    """Under this condition that plan would be chosen; plan is None where none could be."""

    condition: str
    sentence: str
    plan: Plan | None = None
    more_bytes: int = 0


def alternatives(chosen: Choice | NoPlan, machine: Machine, *, goal: Goal, choose: Choose) -> tuple[Change, ...]:
    """What differs under more memory, the other quality classes, other numbers of jobs at once, and a shared prompt;
    conditions that change nothing an owner would notice, or nothing for the better, are left out."""
    found = [_more_memory(chosen, machine, goal=goal, choose=choose)]
    for condition, other in _goals(goal):
        found.append(_changed(chosen, choose(machine, other), condition=condition))
    return tuple(change for change in found if change is not None)


def _goals(goal: Goal) -> list[tuple[str, Goal]]:
    mix, replace = goal.mix, msgspec.structs.replace
    goals = [(f"At {q.value} quality", replace(goal, quality=q)) for q in QualityClass if q is not goal.quality]
    for jobs in _JOBS:
        if jobs != mix.concurrent:
            words = "With 1 job at a time" if jobs == 1 else f"With {jobs:.0f} jobs at once"
            goals.append((words, replace(goal, mix=replace(mix, concurrent=jobs))))
    shared = round(_SHARED_SHARE * mix.prompt_tokens)
    if not mix.shared_prefix_tokens and shared:
        words = f"With prompts whose first {shared} of {mix.prompt_tokens} tokens are alike"
        goals.append((words, replace(goal, mix=replace(mix, shared_prefix_tokens=shared))))
    return goals


def _more_memory(chosen: Choice | NoPlan, machine: Machine, *, goal: Goal, choose: Choose) -> Change | None:
    """The least memory more on the best device that changes the choice, to a thirtieth of the step that did."""
    plan = chosen.plan if isinstance(chosen, Choice) else None
    device = machine.devices[0]
    below = 0
    for more in _MORE_BYTES:
        if _differs(plan, choose(_roomier(machine, more), goal)):
            break
        below = more
    else:
        return None
    above = more
    for _ in range(_HALVINGS):
        middle = (below + above) // 2
        if _differs(plan, choose(_roomier(machine, middle), goal)):
            above = middle
        else:
            below = middle
    is_there = device.free_bytes + above <= device.memory_bytes
    memory = "RAM" if device.kind is DeviceKind.CPU else "GPU memory"
    condition = f"With {above / GIB:.1f} GiB more {'free ' if is_there else ''}{memory}"
    change = _changed(chosen, choose(_roomier(machine, above), goal), condition=condition)
    return change and msgspec.structs.replace(change, more_bytes=above)


def _roomier(machine: Machine, more_bytes: int) -> Machine:
    first = machine.devices[0]
    memory = max(first.memory_bytes, first.free_bytes + more_bytes)
    roomier = msgspec.structs.replace(first, free_bytes=first.free_bytes + more_bytes, memory_bytes=memory)
    return msgspec.structs.replace(machine, devices=(roomier, *machine.devices[1:]))


def _differs(plan: Plan | None, other: Choice | NoPlan) -> bool:
    return isinstance(other, Choice) and (plan is None or _noticed(other.plan) != _noticed(plan))


def _noticed(plan: Plan) -> tuple[object, ...]:
    """What an owner would notice of a plan."""
    return (
        plan.runtime, plan.quantization, plan.slots, plan.kv_type, plan.gpu_layers, plan.device_id, plan.prefix_cache,
        plan.draft_tokens, plan.continuous_batching,
    )  # fmt: skip


def _changed(chosen: Choice | NoPlan, other: Choice | NoPlan, *, condition: str) -> Change | None:
    if isinstance(chosen, NoPlan):
        if isinstance(other, NoPlan):
            return None
        gain = f"{speed_words(other.estimate.decode_tokens_per_s)} tok/s for one job"
        return Change(condition, f"{condition}: {plan_words(other.plan)}, {gain}.", other.plan)
    if isinstance(other, NoPlan):
        return Change(condition, f"{condition}: nothing could be served. {other.reason}")
    gain = _gain(chosen, other) if _differs(chosen.plan, other) else ""
    if not gain:
        return None
    extra = _difference(chosen.plan, other.plan)
    return Change(condition, f"{condition}: {plan_words(other.plan)}{extra}, {gain}.", other.plan)


def _gain(chosen: Choice, other: Choice) -> str:
    """What is better, with what it is now; empty when nothing is."""
    before, after = (together(c.plan, c.estimate) for c in (chosen, other))
    is_truer = other.estimate.kl_divergence < chosen.estimate.kl_divergence
    shares = other.plan.prefix_cache and not chosen.plan.prefix_cache
    if not (after > NEARLY * before or is_truer or shares):
        return ""
    totals = f"{speed_words(after)} tok/s in all instead of {speed_words(before)}"
    return f"less quality lost, {totals}" if is_truer else totals


def _difference(plan: Plan, other: Plan) -> str:
    """What the plan's usual words leave out."""
    said = []
    if other.device_id != plan.device_id or (other.gpu_layers > 0) != (plan.gpu_layers > 0):
        said.append("on the GPU" if other.gpu_layers else "on the processor")
    elif other.gpu_layers > plan.gpu_layers:
        said.append("more of its layers on the GPU")
    elif other.gpu_layers < plan.gpu_layers:
        said.append("fewer of its layers on the GPU")
    if other.prefix_cache and not plan.prefix_cache:
        said.append("the shared beginning read once")
    return "".join(f", {words}" for words in said)
