"""Laws of the window: what the owner reads and presses, at its first and at its smallest size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QPoint, QRect, Qt  # noqa: E402
from PySide6.QtWidgets import QApplication, QLabel, QListView, QMenu, QPushButton, QWidget  # noqa: E402
from pytestqt.qtbot import QtBot  # noqa: E402

from app.gui.actions import ACTIONS  # noqa: E402
from app.gui.earnings_presenter import earnings_page  # noqa: E402
from app.gui.figures import Now  # noqa: E402
from app.gui.fonts import load_fonts, text_font  # noqa: E402
from app.gui.job_panel import PRIVACY  # noqa: E402
from app.gui.label import Label  # noqa: E402
from app.gui.main_window import MainWindow  # noqa: E402
from app.gui.preferences import Preferences  # noqa: E402
from app.gui.row_list import RowList  # noqa: E402
from app.gui.theme import Theme  # noqa: E402
from app.gui.views import Link, LinkPhase  # noqa: E402
from core import commands as c  # noqa: E402
from core.job import JobId  # noqa: E402
from core.node_state import NodeState  # noqa: E402
from tests.app.gui import fabricated as node  # noqa: E402

NOW = Now(node.NOON)
OVERVIEW, JOBS, EARNINGS = 0, 1, 2


class Scene:
    """A window and the commands that it gave."""

    def __init__(self, qtbot: QtBot, folder: Path) -> None:
        load_fonts()
        QApplication.setStyle("Fusion")
        QApplication.setFont(text_font())
        preferences = Preferences(folder / "window.ini")
        preferences.mark_closing_told()
        self.window = MainWindow(Theme(is_dark=False, reduce_motion=True), preferences, clock=lambda: NOW)
        self.given: list[object] = []
        self.window.command_given.connect(self.given.append)
        qtbot.addWidget(self.window)
        self.window.show_link(Link(LinkPhase.CONNECTED))
        self.window.show()
        self._bot = qtbot

    def show(self, state: NodeState, page: int = OVERVIEW) -> None:
        self.window.show_state(state)
        self.window.show_page(page)
        self._bot.wait(20)

    def press(self, name: str) -> None:
        button = self.window.findChild(QPushButton, name)
        assert isinstance(button, QPushButton)
        assert button.isVisible()
        self._bot.mouseClick(button, Qt.MouseButton.LeftButton)

    def words(self) -> set[str]:
        labels = self.window.findChildren(Label)
        return {label.whole for label in labels if label.isVisible()}


@pytest.fixture
def scene(qtbot: QtBot, tmp_path: Path) -> Scene:
    return Scene(qtbot, tmp_path)


def test_every_command_has_its_place_in_the_window(scene: Scene) -> None:
    assert set(ACTIONS) == set(get_args(c.Command))
    names = {child.objectName() for child in scene.window.findChildren(QWidget)}
    for menu in scene.window.findChildren(QMenu):
        names |= {action.objectName() for action in menu.actions()}
    assert set(ACTIONS.values()) <= names


def test_pressing_join_asks_to_join(scene: Scene) -> None:
    scene.show(node.fold(node.measured()))
    scene.press("join_network")
    assert scene.given == [c.JoinNetwork()]


def test_leaving_resuming_and_cancelling_are_one_press_each(scene: Scene) -> None:
    scene.show(node.fold(node.waiting()))
    scene.press("leave_network")
    scene.show(node.fold(node.joining()))
    scene.press("cancel_joining")
    scene.show(node.fold([*node.waiting(), node.e.WorkPaused(node.NOON, "", None)]))
    scene.press("resume_work")
    assert scene.given == [c.LeaveNetwork(), c.LeaveNetwork(now=True), c.ResumeWork()]


def test_the_pause_menu_offers_each_length_and_now(scene: Scene) -> None:
    scene.show(node.fold(node.waiting()))
    menu = scene.window.findChild(QMenu, "pause_menu")
    assert isinstance(menu, QMenu)
    for action in menu.actions():
        action.trigger()
    assert scene.given == [c.PauseWork(900.0), c.PauseWork(3600.0), c.PauseWork(), c.PauseWork(now=True)]


def test_running_jobs_show_on_the_overview(scene: Scene) -> None:
    scene.show(node.serving())
    assert {"You’re contributing", "634 / 1,024 tokens", "11 s left", "0.000631 USDC"} <= scene.words()


def test_a_job_can_be_opened_and_cancelled_and_its_words_are_never_there(scene: Scene) -> None:
    scene.show(node.serving(), JOBS)
    rows = scene.window.findChild(RowList, "live_jobs")
    assert isinstance(rows, RowList)
    rows.pick("j-1b7e02c9aa10")
    scene.show(node.serving(), JOBS)
    assert PRIVACY in scene.words()
    scene.press("cancel_job")
    assert scene.given == [c.CancelJob(JobId("j-1b7e02c9aa10"))]


def test_a_selected_job_stays_selected_when_others_come_and_go(scene: Scene) -> None:
    scene.show(node.serving(), JOBS)
    rows = scene.window.findChild(RowList, "live_jobs")
    assert isinstance(rows, RowList)
    rows.pick("j-1b7e02c9aa10")
    ended = node.e.JobEnded(
        node.NOON, JobId("j-8f2c91a044de"), node.JobState.FINISHED, "stop", node.Usage(1882, 700), 700
    )
    scene.show(node.fold([ended], node.serving()), JOBS)
    assert rows.picked_key() == "j-1b7e02c9aa10"


def test_a_job_that_ends_while_it_is_looked_at_stays_in_view(scene: Scene) -> None:
    scene.show(node.serving(), JOBS)
    rows = scene.window.findChild(RowList, "live_jobs")
    assert isinstance(rows, RowList)
    rows.pick("j-8f2c91a044de")
    scene.show(node.serving(), JOBS)
    finished = node.JobState.FINISHED
    ended = node.e.JobEnded(node.NOON, JobId("j-8f2c91a044de"), finished, "stop", node.Usage(1882, 700), 700)
    scene.show(node.fold([ended], node.serving()), JOBS)
    assert rows.picked_key() == ""
    assert {PRIVACY, "Generated"} <= scene.words()
    scene.press("close_details")
    assert PRIVACY not in scene.words()


def test_a_list_that_gets_the_focus_selects_nothing_by_itself(scene: Scene) -> None:
    scene.show(node.serving(), JOBS)
    rows = scene.window.findChild(RowList, "live_jobs")
    assert isinstance(rows, RowList)
    view = rows.findChild(QListView)
    assert isinstance(view, QListView)
    scene.window.activateWindow()
    view.setFocus()
    scene.show(node.serving(), JOBS)
    assert view.hasFocus()
    assert rows.picked_key() == ""


def test_the_earnings_page_shows_the_states_sums(scene: Scene) -> None:
    state = node.serving()
    scene.show(state, EARNINGS)
    page = earnings_page(state, NOW)
    assert {page.withdrawable.value, *(shown.value for shown in page.sums)} <= scene.words()
    scene.press("withdraw")
    assert scene.given == [c.WithdrawEarnings()]


def test_withdraw_is_off_while_there_is_nothing_to_withdraw(scene: Scene) -> None:
    scene.show(node.fold(node.measured()), EARNINGS)
    button = scene.window.findChild(QPushButton, "withdraw")
    assert isinstance(button, QPushButton)
    assert not button.isEnabled()


def test_a_refusal_is_read_in_full(scene: Scene) -> None:
    scene.show(node.fold(node.measured()))
    scene.window.tell(c.JoinNetwork(), c.Refused("No model is installed. Add one with More, then join."))
    assert "No model is installed. Add one with More, then join." in scene.words()


def test_without_an_engine_nothing_is_sent_and_the_owner_is_told(scene: Scene) -> None:
    scene.show(node.fold(node.measured()))
    scene.window.show_link(Link(LinkPhase.LOST))
    scene.window.give(c.JoinNetwork())
    assert scene.given == []
    assert "Reconnecting…" in scene.words()


def test_quitting_closes_the_window_once_the_engine_is_gone(scene: Scene) -> None:
    scene.show(node.fold(node.measured()))
    scene.window.give(c.QuitEngine())
    assert scene.window.isVisible()
    scene.window.show_link(Link(LinkPhase.LOST))
    assert not scene.window.isVisible()


@pytest.mark.parametrize("page", [OVERVIEW, JOBS, EARNINGS])
@pytest.mark.parametrize("size", [(1024, 640), (1280, 800)])
def test_nothing_overlaps_or_is_cut(scene: Scene, page: int, size: tuple[int, int]) -> None:
    scene.window.resize(*size)
    scene.show(node.serving(), page)
    labels = [label for label in scene.window.findChildren(QLabel) if label.isVisible() and label.text()]
    boxes = [(label, QRect(label.mapTo(scene.window, QPoint(0, 0)), label.size())) for label in labels]
    for number, (label, box) in enumerate(boxes):
        assert box.right() <= scene.window.width(), label.text()
        for other, its in boxes[number + 1 :]:
            assert not box.adjusted(1, 2, -1, -2).intersects(its.adjusted(1, 2, -1, -2)), (label.text(), other.text())


def test_words_that_are_not_elided_have_room(scene: Scene) -> None:
    for page in (OVERVIEW, JOBS, EARNINGS):
        scene.window.resize(1024, 640)
        scene.show(node.serving(), page)
        for label in scene.window.findChildren(Label):
            if label.isVisible() and not label.wordWrap() and label.text() == label.whole:
                needed = label.fontMetrics().horizontalAdvance(label.text())
                assert needed <= label.width() + 1, label.text()
