"""Composes the window: theme, preferences, engine process, control link and MainWindow, and runs Qt's loop.

The only place where these meet. Never imports the engine, the swarm or a runtime.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from PySide6.QtCore import QTimer
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QApplication

from app.gui.control_link import ControlLink
from app.gui.engine_process import EngineProcess
from app.gui.figures import Now
from app.gui.fonts import load_fonts, text_font
from app.gui.main_window import MainWindow
from app.gui.preferences import Preferences
from app.gui.theme import Theme
from app.gui.views import Link, LinkPhase
from app.lockfile import engine_address
from assets import asset_path
from core.home import Home

SIGNALS_MS = 200
GONE_MS = 5_000
STOPPED = "The engine stopped. Start it again to go on; what you earned is kept."


class Desktop:
    """The window over one home, with its link and its engine, joined but not yet opened. Needs an `application`."""

    def __init__(self, home: Path, *, engine_words: tuple[str, ...] = ()) -> None:
        place = Home(home)
        preferences = Preferences(home / "window.ini")
        theme = Theme(is_dark=preferences.is_dark, reduce_motion=preferences.reduce_motion)
        self.window = MainWindow(theme, preferences, clock=local_now)
        if not preferences.geometry.isEmpty():
            self.window.restoreGeometry(preferences.geometry)
        self.link = ControlLink(place)
        self._engine = EngineProcess(place, engine_words)
        _connect(place, self.window, link=self.link, engine=self._engine)

    def open(self) -> None:
        """Show the window and find its engine, or start one."""
        self.window.show()
        self._engine.ensure()

    def close(self) -> None:
        """Let the engine go; it runs on."""
        self.link.close()


def run_window(home: Path, *, engine_words: tuple[str, ...] = ()) -> int:
    """Open the window over the engine of this home, starting one if none runs; returns when the window is closed.

    engine_words are further words for the engine's command line. Returns the exit status.
    """
    app = application()
    desktop = Desktop(home, engine_words=engine_words)
    ticking = _heed_interrupts(app)
    desktop.open()
    status = app.exec()
    ticking.stop()
    desktop.close()
    return status


def application() -> QApplication:
    """Qt's one application, with our name, icon, style and fonts."""
    known = QApplication.instance()
    app = known if isinstance(known, QApplication) else QApplication(sys.argv[:1])
    app.setApplicationName("Starling")
    app.setApplicationDisplayName("Starling")
    app.setDesktopFileName("starling")
    app.setWindowIcon(QIcon(str(asset_path("icons/starling-app.svg"))))
    app.setStyle("Fusion")
    load_fonts()
    app.setFont(text_font())
    return app


def local_now() -> Now:
    """The time and this computer's offset from UTC."""
    at = time.time()
    return Now(at, time.localtime(at).tm_gmtoff)


def _connect(home: Home, window: MainWindow, *, link: ControlLink, engine: EngineProcess) -> None:
    def start_again() -> None:
        window.show_link(Link(LinkPhase.STARTING))
        engine.ensure()

    def fail(sentence: str) -> None:
        link.close()
        window.show_link(Link(LinkPhase.FAILED, sentence))

    def look_after_loss() -> None:
        if not link.is_connected and engine_address(home) is None:
            fail(STOPPED)

    def follow(state: Link) -> None:
        if state.phase is LinkPhase.LOST:
            QTimer.singleShot(GONE_MS, window, look_after_loss)

    link.state_changed.connect(window.show_state)
    link.link_changed.connect(follow)
    link.link_changed.connect(window.show_link)
    link.answered.connect(window.tell)
    window.command_given.connect(link.execute)
    window.retry_wanted.connect(start_again)
    engine.found.connect(link.open)
    engine.failed.connect(fail)


def _heed_interrupts(app: QApplication) -> QTimer:
    """Qt's loop runs no Python by itself; a slow timer lets the interpreter see Ctrl-C.

    `exit`, not `quit`: that would close the window first, which asks a question that nobody may be there to answer.
    """
    signal.signal(signal.SIGINT, lambda *_: app.exit())
    signal.signal(signal.SIGTERM, lambda *_: app.exit())
    timer = QTimer(app)
    timer.timeout.connect(_let_python_run)
    timer.start(SIGNALS_MS)
    return timer


def _let_python_run() -> None:
    """Nothing: that the interpreter runs at all is the point."""
