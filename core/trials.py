"""What is worth a trial on this machine now, as the explorer takes it: plans with files on disk that fit beside the one
that serves.

Decides nothing itself: the meta-model predicts, core.metamodel.exploration picks. Blocking: call it in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from core.device import Benchmark, Machine
from core.explorer import Trial
from core.metamodel.choice import Ranked, pick, rank
from core.metamodel.exploration import WORTH, worth_trying
from core.metamodel.goal import Goal
from core.metamodel.meta_model import MetaModel
from core.metamodel.own_measurements import place_of
from core.model_card import ModelCard
from core.plan import Choice, Plan


class Situation(msgspec.Struct, frozen=True):
    """The model that is served and by which plan, the machine as it is while it serves, and what was measured on it."""

    card: ModelCard
    incumbent: Plan
    machine: Machine
    goal: Goal
    benchmark: Benchmark | None
    measured: tuple[Benchmark, ...] = ()


def find_trials(model: MetaModel, now_is: Situation, *, path_of: Callable[[str], Path]) -> tuple[Trial, ...]:
    """At most four. path_of gives the file of a quantization."""
    ranked, machine = _ranked(model, now_is), now_is.machine
    ready = [r for r in ranked if now_is.card.variant(r.plan.quantization) is not None or r.plan == now_is.incumbent]
    speeds = model.experience.speeds
    known = [cell for device in machine.devices for cell in speeds.at(place_of(device, machine.runtime))]
    plans = worth_trying(ready, now_is.incumbent, goal=now_is.goal, known=known)
    devices = {device.device_id: device for device in machine.devices}
    return tuple(Trial(plan, now_is.card, devices[plan.device_id], path_of(plan.quantization)) for plan in plans)


def is_outdone(model: MetaModel, now_is: Situation) -> bool:
    """Whether another plan is expected to earn more by 5 %, or keeps limits that this one breaks. The machine is to be
    as it would be without what serves now."""
    ranked = _ranked(model, now_is)
    best = pick(ranked, goal=now_is.goal)
    if not isinstance(best, Choice):
        return False
    ours, chosen = (next(r for r in ranked if r.plan == plan) for plan in (now_is.incumbent, best.plan))
    if chosen.verdict is not ours.verdict:
        return True
    return best.estimate.reward_per_hour >= WORTH * ours.estimate.reward_per_hour > 0


def freed(machine: Machine, device_bytes: dict[str, int]) -> Machine:
    """The machine as it would be without a worker that takes so much of each device."""
    devices = tuple(
        msgspec.structs.replace(d, free_bytes=min(d.memory_bytes, d.free_bytes + device_bytes.get(d.device_id, 0)))
        for d in machine.devices
    )
    return msgspec.structs.replace(machine, devices=devices)


def _ranked(model: MetaModel, now_is: Situation) -> tuple[Ranked, ...]:
    """Every candidate and the incumbent, which need not be among them; nothing where its device is gone."""
    home = next((d for d in now_is.machine.devices if d.device_id == now_is.incumbent.device_id), None)
    if home is None:
        return ()
    estimates = model.estimates(
        now_is.card, now_is.machine, benchmark=now_is.benchmark, goal=now_is.goal, measured=now_is.measured
    )
    ours = next((estimate for plan, estimate in estimates if plan == now_is.incumbent), None)
    if ours is None:
        ours = model.predict(now_is.incumbent, home, card=now_is.card, benchmark=now_is.benchmark)
    others = [(plan, estimate) for plan, estimate in estimates if plan != now_is.incumbent]
    return rank([*others, (now_is.incumbent, ours)], goal=now_is.goal, timetables=model.timetables)
