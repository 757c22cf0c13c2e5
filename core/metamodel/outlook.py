"""All that can be told of serving one model on one machine: the plans in order, the choice, what would change it.

Pure but for the meta-model it is handed. Never records and never serves.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from core.device import Benchmark, Machine
from core.metamodel.alternatives import Change, alternatives
from core.metamodel.choice import Ranked, best_of, pick, rank
from core.metamodel.goal import Goal
from core.metamodel.meta_model import MetaModel
from core.model_card import ModelCard
from core.plan import Choice, NoPlan, Plan

Cell = tuple[str, str, str, int]


class Question(msgspec.Struct, frozen=True):
    """A model on a machine towards a goal, and what was measured there: by the benchmark of a real model, and of
    made-up ones. pinned: the plan that its owner keeps."""

    card: ModelCard
    machine: Machine
    goal: Goal
    benchmark: Benchmark | None = None
    measured: tuple[Benchmark, ...] = ()
    pinned: Plan | None = None


class Outlook(msgspec.Struct, frozen=True):
    """ranked: every plan; the chosen one first, then those that keep the limits by what they earn, then the others.
    kept: the plan that its owner keeps, also where it is not among them; None where its device is gone."""

    question: Question
    choice: Choice | NoPlan
    ranked: tuple[Ranked, ...] = ()
    changes: tuple[Change, ...] = ()
    speeds: dict[Cell, float] = {}
    kept: Ranked | None = None

    def measured(self, plan: Plan) -> float:
        """Tokens per second of one job that was measured of this quantization on this device; 0: none."""
        return self.speeds.get(_cell(plan), 0.0)


def outlook(model: MetaModel, question: Question) -> Outlook:
    """Rank every plan, choose, and choose again under other conditions: a dozen choices."""
    goal = question.goal
    estimates = model.estimates(
        question.card, question.machine, benchmark=question.benchmark, goal=goal, measured=question.measured
    )
    ranked = rank(estimates, goal=goal, timetables=model.timetables)
    choice = pick(ranked, goal=goal)

    def again(machine: Machine, goal: Goal) -> Choice | NoPlan:
        return model.choose(
            question.card, machine, benchmark=question.benchmark, goal=goal, measured=question.measured
        )

    changes = alternatives(choice, question.machine, goal=goal, choose=again)
    if isinstance(choice, NoPlan):
        return Outlook(question, choice, ranked, changes, kept=_kept(model, question, ranked=ranked))
    first = [row for row in ranked if row.plan == choice.plan]
    rest = [row for row in ranked if row.plan != choice.plan]
    speeds = _measured(model, question, ranked=ranked)
    speed = speeds.get(_cell(choice.plan), 0.0)
    choice = model.noticed(msgspec.structs.replace(choice, measured_decode_tokens_per_s=speed))
    return Outlook(question, choice, (*first, *rest), changes, speeds, _kept(model, question, ranked=ranked))


def best_of_each_kind(ranked: Sequence[Ranked]) -> list[tuple[int, Ranked]]:
    """The best of those with the same quantization, device and runtime, with its place (from 1) among all; kinds in
    the order of their first row."""
    kinds: dict[tuple[str, str, str], list[Ranked]] = {}
    places = {row.plan: place for place, row in enumerate(ranked, start=1)}
    for row in ranked:
        kinds.setdefault((row.plan.runtime, row.plan.device_id, row.plan.quantization), []).append(row)
    if not kinds:
        return []
    chosen, *others = kinds.values()
    best = [chosen[0], *(best_of(rows) for rows in others)]
    return [(places[row.plan], row) for row in best]


def _kept(model: MetaModel, question: Question, *, ranked: Sequence[Ranked]) -> Ranked | None:
    if question.pinned is None:
        return None
    if (found := next((row for row in ranked if row.plan == question.pinned), None)) is not None:
        return found
    machine, benchmark = question.machine, question.benchmark
    made = model.keep(
        question.pinned, question.card, machine=machine, benchmark=benchmark, measured=question.measured
    )
    if isinstance(made, NoPlan):
        return None
    return rank([(made.plan, made.estimate)], goal=question.goal, timetables=model.timetables)[0]


def _measured(model: MetaModel, question: Question, *, ranked: Sequence[Ranked]) -> dict[Cell, float]:
    """What was measured, by what a speed of one job depends on most."""
    plans = {_cell(row.plan): row.plan for row in ranked}
    machine, benchmark = question.machine, question.benchmark
    speeds = {
        cell: model.measured(plan, question.card, machine=machine, benchmark=benchmark) for cell, plan in plans.items()
    }
    return {cell: speed for cell, speed in speeds.items() if speed}


def _cell(plan: Plan) -> Cell:
    return plan.runtime, plan.device_id, plan.quantization, plan.gpu_layers
