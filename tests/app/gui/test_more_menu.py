"""The More menu gives each command on models, and offers only what is not there yet."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtGui import QAction  # noqa: E402
from PySide6.QtWidgets import QInputDialog, QMenu, QWidget  # noqa: E402
from pytestqt.qtbot import QtBot  # noqa: E402

from app.gui.fonts import load_fonts  # noqa: E402
from app.gui.more_menu import TYPES, MoreMenu  # noqa: E402
from app.gui.theme import Theme  # noqa: E402
from core import commands as c  # noqa: E402
from core.model_card import ModelVariant  # noqa: E402
from tests.app.gui import fabricated as node  # noqa: E402


@pytest.fixture
def given() -> list[object]:
    return []


@pytest.fixture
def menu(qtbot: QtBot, given: list[object]) -> Iterator[MoreMenu]:
    load_fonts()
    window = QWidget()
    qtbot.addWidget(window)
    made = MoreMenu(Theme(is_dark=False, reduce_motion=True), window)
    made.command_given.connect(given.append)
    yield made
    assert made.parentWidget() is window


def trigger(menu: MoreMenu, name: str) -> None:
    found = menu.findChild(QAction, name)
    assert isinstance(found, QAction)
    found.trigger()


def test_checking_and_stopping_are_one_press_each(menu: MoreMenu, given: list[object]) -> None:
    trigger(menu, "verify_models")
    trigger(menu, "stop_model_work")
    assert given == [c.VerifyModels(), c.StopModelWork()]


def test_a_model_of_the_hub_is_asked_for_by_name(
    menu: MoreMenu, given: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for answer in (("", True), ("a/b:Q8_0", False), (" a/b:Q8_0 ", True)):
        monkeypatch.setattr(QInputDialog, "getText", lambda *_, a=answer: a)
        trigger(menu, "install_model")
    assert given == [c.InstallModel("a/b:Q8_0")]


def test_only_types_that_are_not_there_are_offered(menu: MoreMenu, given: list[object]) -> None:
    state = node.fold(node.measured())
    name, card = next(iter(state.models.items()))
    there = msgspec.structs.replace(card, variants=(ModelVariant("Q8_0", 1, "00", "m/Q8_0.gguf"),))
    menu.show_state(msgspec.structs.replace(state, models={name: there}))
    quantize = menu.findChild(QMenu, "quantize_model")
    assert isinstance(quantize, QMenu)
    offered = quantize.actions()[0].menu()
    assert isinstance(offered, QMenu)
    assert tuple(action.text() for action in offered.actions()) == TYPES[1:]
    offered.actions()[0].trigger()
    assert given == [c.QuantizeModel(name, TYPES[1])]


def test_the_chosen_plan_is_kept_and_let_go_by_one_entry(menu: MoreMenu, given: list[object]) -> None:
    state = node.fold(node.measured())
    assert state.choice is not None
    plan = state.choice.plan
    menu.show_state(state)
    trigger(menu, "pin_plan")
    kept = msgspec.structs.replace(state, pins={plan.model: plan})
    menu.show_state(kept)
    action = menu.findChild(QAction, "pin_plan")
    assert isinstance(action, QAction) and action.isChecked()
    assert action.text() == "Keep this plan: Q5_K_M with 4 slots"
    trigger(menu, "pin_plan")
    assert given == [c.PinPlan(plan), c.UnpinPlan(plan.model)]
