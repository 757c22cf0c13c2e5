"""The window over real processes: Join is pressed, jobs come, earnings rise, and the engine outlives the window."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import Qt, QTimer  # noqa: E402
from PySide6.QtGui import QAction, QImage  # noqa: E402
from PySide6.QtWidgets import QAbstractButton, QMenu, QMessageBox  # noqa: E402
from pytestqt.qtbot import QtBot  # noqa: E402

from app.child import Child  # noqa: E402
from app.control_client import ControlClient, ControlLinkLost, EngineNotRunning  # noqa: E402
from app.devnet import Devnet  # noqa: E402
from app.gui.figures import money  # noqa: E402
from app.gui.label import Label  # noqa: E402
from app.gui.main import Desktop, application  # noqa: E402
from app.gui.row_list import RowList  # noqa: E402
from core import commands as c  # noqa: E402
from core.home import Home  # noqa: E402
from core.node_state import NodeState, Presence  # noqa: E402
from core.state import earnings  # noqa: E402

pytestmark = pytest.mark.e2e

PATIENCE_MS = 240_000
SOON_MS = 30_000
AT_ONCE_MS = 5_000
PAGES = ("overview", "jobs", "earnings")
MANY_COLOURS = 40
GROUND = 4
FAR_APART = 100


class Owner:
    """Sits before the window of one home: looks and presses."""

    def __init__(self, bot: QtBot, home: Home, *, devnet: Devnet) -> None:
        application()
        self._bot = bot
        self._home = home
        self._words = ("--network", str(devnet.network_file))
        self.open()

    def open(self) -> None:
        """Open the window, as `starling` does."""
        self._desktop = Desktop(self._home.folder, engine_words=self._words)
        self.window = self._desktop.window
        self.state = NodeState()
        self._desktop.link.state_changed.connect(self._see)
        self._desktop.open()

    def let_go(self) -> None:
        """Take the window away; its engine is not touched."""
        self._desktop.close()
        self.window.hide()
        self.window.deleteLater()

    def press(self, name: str) -> None:
        """Press a button once it can be pressed."""
        button = self.window.findChild(QAbstractButton, name)
        assert isinstance(button, QAbstractButton)
        self.wait(lambda: button.isVisible() and button.isEnabled(), timeout_ms=SOON_MS)
        self._bot.mouseClick(button, Qt.MouseButton.LeftButton)

    def choose(self, menu: str, text: str) -> None:
        """Choose an entry of a menu."""
        found = self.window.findChild(QMenu, menu)
        assert isinstance(found, QMenu)
        next(entry for entry in found.actions() if entry.text() == text).trigger()

    def wait(self, is_met: Callable[[], bool], *, timeout_ms: int = PATIENCE_MS) -> None:
        """Until it is so, on Qt's loop."""
        self._bot.waitUntil(is_met, timeout=timeout_ms)

    def reads(self, words: str) -> bool:
        """Whether these words stand in the window now."""
        return any(label.isVisible() and label.whole == words for label in self.window.findChildren(Label))

    def live_rows(self) -> set[str]:
        """The ids in the list of live jobs."""
        rows = self.window.findChild(RowList, "live_jobs")
        assert isinstance(rows, RowList)
        return {row.job_id for row in rows.rows if not isinstance(row, str)}

    def grab(self, path: Path) -> QImage:
        """The window as a picture."""
        self._bot.wait(100)
        image = self.window.grab().toImage()
        assert image.save(str(path))
        return image

    def _see(self, state: NodeState) -> None:
        self.state = state


@pytest.fixture
def owner(qtbot: QtBot, devnet: Devnet, tmp_path: Path) -> Iterator[Owner]:
    """A window over a fresh home, and a requester that sends jobs without end; all of it is stopped afterwards."""
    home, asking = Home(tmp_path / "provider"), Home(tmp_path / "requester")
    words = ["app.demo_requester", "--home", str(asking.folder), "--network", str(devnet.network_file), "--jobs", "0"]
    with ExitStack() as stack:
        stack.callback(quit_engine, home)
        stack.enter_context(Child("requester", words, log=asking.logs / "process.log"))
        sitting = Owner(qtbot, home, devnet=devnet)
        stack.callback(lambda: sitting.let_go())
        yield sitting


def quit_engine(home: Home) -> None:
    try:
        with ControlClient.connect(home, timeout_s=5.0) as client:
            client.execute(c.QuitEngine(now=True), timeout_s=30.0)
    except (EngineNotRunning, ControlLinkLost):
        return


def join(owner: Owner) -> None:
    owner.press("join_network")
    owner.wait(lambda: owner.state.presence is Presence.JOINED and owner.state.total.finished > 0)


def colours(image: QImage) -> int:
    """How many colours a coarse look finds."""
    spots = ((x, y) for x in range(0, image.width(), 5) for y in range(0, image.height(), 5))
    return len({image.pixel(x, y) for x, y in spots})


def shows_the_states_sums(owner: Owner) -> bool:
    sums, coin = earnings(owner.state), money(owner.state)
    amounts = (sums.withdrawable, sums.earned + sums.accruing, sums.settling, sums.total)
    return all(owner.reads(coin.text(amount)) for amount in amounts)


def assert_every_page_is_drawn_in_both_looks(owner: Owner, folder: Path) -> None:
    grabs = {}
    for look in ("first", "second"):
        for page in PAGES:
            owner.press(f"page_{page}")
            grabs[look, page] = owner.grab(folder / f"{page}-{look}.png")
        owner.press("toggle_theme")
    assert min(colours(image) for image in grabs.values()) > MANY_COLOURS
    for page in PAGES:
        first, second = (grabs[look, page].pixelColor(GROUND, GROUND).lightness() for look in ("first", "second"))
        assert abs(first - second) > FAR_APART


def test_after_join_is_pressed_jobs_appear_live_and_earnings_rise(owner: Owner, tmp_path: Path) -> None:
    join(owner)
    owner.press("page_jobs")
    owner.wait(lambda: bool(owner.live_rows() & set(owner.state.jobs)))
    owner.press("page_earnings")
    before = earnings(owner.state).total
    owner.wait(lambda: earnings(owner.state).total > before > 0 and shows_the_states_sums(owner))
    assert_every_page_is_drawn_in_both_looks(owner, tmp_path)


def test_pausing_resuming_and_leaving_from_the_window(owner: Owner) -> None:
    join(owner)
    owner.choose("pause_menu", "Until I resume")
    owner.wait(lambda: owner.reads("Paused") and not owner.state.jobs, timeout_ms=SOON_MS)
    served = owner.state.total.finished
    owner.press("resume_work")
    owner.wait(lambda: owner.reads("You’re contributing") and owner.state.total.finished > served, timeout_ms=SOON_MS)
    owner.press("leave_network")
    owner.wait(lambda: owner.reads("Ready to join") and owner.state.worker is None, timeout_ms=SOON_MS)


def test_closing_the_window_leaves_the_engine_running_and_says_so(owner: Owner, qtbot: QtBot) -> None:
    join(owner)
    said: list[str] = []

    def answer() -> None:
        dialog = owner.window.findChild(QMessageBox)
        assert isinstance(dialog, QMessageBox)
        said.extend((dialog.text(), dialog.informativeText()))
        next(button for button in dialog.buttons() if button.text() == "Close window").click()

    QTimer.singleShot(300, answer)
    owner.window.close()
    assert said[0] == "Starling keeps running when this window is closed."
    assert "goes on earning" in said[1]
    assert not owner.window.isVisible()
    earned = earnings(owner.state).total
    owner.let_go()
    owner.open()
    owner.wait(lambda: owner.reads("You’re contributing"), timeout_ms=AT_ONCE_MS)
    assert earnings(owner.state).total >= earned > 0
    quitting = owner.window.findChild(QAction, "quit_engine")
    assert isinstance(quitting, QAction)
    quitting.trigger()
    owner.wait(lambda: not owner.window.isVisible(), timeout_ms=SOON_MS)
