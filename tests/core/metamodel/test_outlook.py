"""The laws of what is told of a plan: the order, and that every change is a choice that was really made."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from core.job import QualityClass
from core.metamodel.choice import Verdict
from core.metamodel.described import described
from core.metamodel.goal import Goal, Limits
from core.metamodel.meta_model import MetaModel
from core.metamodel.outlook import Outlook, Question, best_of_each_kind, outlook
from core.metamodel.shapes import shape_card
from core.plan import Choice, NoPlan

ASSETS = Path(__file__).parents[3] / "assets" / "metamodel"


@pytest.fixture(scope="module")
def model() -> MetaModel:
    return MetaModel.open(ASSETS / "prior.json")


def question(device: str = "gpu-8gb", *, size: str = "8b", goal: Goal | None = None) -> Question:
    machine = described((ASSETS / "devices" / f"{device}.json").read_bytes()).machine
    return Question(shape_card(size), machine, goal or Goal())


def look(model: MetaModel, asked: Question) -> tuple[Outlook, Choice]:
    found = outlook(model, asked)
    assert isinstance(found.choice, Choice)
    return found, found.choice


def test_the_chosen_plan_comes_first_and_what_breaks_a_limit_last(model: MetaModel) -> None:
    found, choice = look(model, question())
    assert found.ranked[0].plan == choice.plan
    verdicts = [row.verdict for row in found.ranked]
    order = list(Verdict)
    assert [order.index(v) for v in verdicts] == sorted(order.index(v) for v in verdicts)


def test_among_plans_that_keep_the_limits_the_one_that_earns_more_comes_first(model: MetaModel) -> None:
    found, _ = look(model, question())
    rewards = [row.estimate.reward_per_hour for row in found.ranked[1:] if row.verdict is Verdict.GOOD]
    assert rewards == sorted(rewards, reverse=True)


def test_the_memory_that_is_said_to_change_the_choice_changes_it_and_much_less_does_not(model: MetaModel) -> None:
    asked = question(size="14b")
    found, choice = look(model, asked)
    change = next(change for change in found.changes if change.more_bytes)
    first = asked.machine.devices[0]

    def chosen_with(more: int) -> Choice:
        roomier = msgspec.structs.replace(first, free_bytes=first.free_bytes + more)
        machine = msgspec.structs.replace(asked.machine, devices=(roomier, *asked.machine.devices[1:]))
        return look(model, msgspec.structs.replace(asked, machine=machine))[1]

    assert chosen_with(change.more_bytes).plan == change.plan
    assert chosen_with(change.more_bytes // 2).plan == choice.plan


def test_another_quality_is_told_with_the_plan_that_it_leads_to(model: MetaModel) -> None:
    found, _ = look(model, question("gpu-24gb"))
    premium = next(change for change in found.changes if change.condition == "At premium quality")
    goal = Goal(quality=QualityClass.PREMIUM)
    assert premium.plan == look(model, question("gpu-24gb", goal=goal))[1].plan


def test_a_power_limit_keeps_a_hungry_device_out(model: MetaModel) -> None:
    found, choice = look(model, question(goal=Goal(limits=Limits(power_w=80.0))))
    assert choice.plan.gpu_layers == 0
    assert any(row.verdict is Verdict.POWER for row in found.ranked)


def test_no_power_at_all_is_a_sentence_with_the_limit(model: MetaModel) -> None:
    found = outlook(model, question(goal=Goal(limits=Limits(power_w=1.0))))
    assert isinstance(found.choice, NoPlan)
    assert "1 W that you allow" in found.choice.reason


def test_each_kind_is_shown_once_with_its_place_among_all(model: MetaModel) -> None:
    found, _ = look(model, question())
    kinds = best_of_each_kind(found.ranked)
    assert kinds[0][0] == 1
    assert all(found.ranked[place - 1] is row for place, row in kinds)
    assert len({(r.plan.quantization, r.plan.runtime, r.plan.device_id) for _, r in kinds}) == len(kinds)


def test_where_nothing_fits_the_memory_that_would_do_is_told(model: MetaModel) -> None:
    found = outlook(model, question(size="70b"))
    assert isinstance(found.choice, NoPlan)
    [change] = [change for change in found.changes if change.more_bytes]
    assert change.plan is not None and change.plan.gpu_layers > 0


def test_of_no_plans_none_is_the_best_of_its_kind() -> None:
    assert best_of_each_kind(()) == []
