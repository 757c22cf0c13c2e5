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
from core.metamodel.choice import rank
from core.metamodel.exploration import worth_trying
from core.metamodel.goal import Goal
from core.metamodel.meta_model import MetaModel
from core.metamodel.own_measurements import place_of
from core.model_card import ModelCard
from core.plan import Plan


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
    card, machine = now_is.card, now_is.machine
    devices = {device.device_id: device for device in machine.devices}
    home = devices.get(now_is.incumbent.device_id)
    if home is None:
        return ()
    estimates = model.estimates(
        card, machine, benchmark=now_is.benchmark, goal=now_is.goal, measured=now_is.measured
    )
    ready = [(p, e) for p, e in estimates if card.variant(p.quantization) is not None and p != now_is.incumbent]
    ours = model.predict(now_is.incumbent, home, card=card, benchmark=now_is.benchmark)
    ranked = rank([*ready, (now_is.incumbent, ours)], goal=now_is.goal, timetables=model.timetables)
    speeds = model.experience.speeds
    known = [cell for device in machine.devices for cell in speeds.at(place_of(device, machine.runtime))]
    plans = worth_trying(ranked, now_is.incumbent, goal=now_is.goal, known=known)
    return tuple(Trial(plan, card, devices[plan.device_id], path_of(plan.quantization)) for plan in plans)
