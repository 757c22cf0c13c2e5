"""The window: sidebar, top bar and pages over one NodeState.

Shows states and sends commands as values. Never talks to the engine itself and never decides anything about it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QResizeEvent
from PySide6.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QMainWindow,
    QScrollArea,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app.gui.earnings_page import EarningsPage
from app.gui.earnings_presenter import earnings_page, transactions_csv
from app.gui.farewell import Farewell, ask_farewell
from app.gui.figures import Now
from app.gui.jobs_page import JobsPage
from app.gui.jobs_presenter import details, jobs
from app.gui.more_menu import MoreMenu
from app.gui.overview_page import OverviewPage
from app.gui.preferences import Preferences
from app.gui.presenter import frame, overview
from app.gui.sidebar import JOBS, PAGES, Sidebar
from app.gui.theme import Theme
from app.gui.toast import Toast
from app.gui.top_bar import TopBar
from app.gui.views import JobDetails, Link, LinkPhase
from core.commands import Command, Done, JoinNetwork, LeaveNetwork, QuitEngine, Refused, Reply
from core.node_state import NodeState

TICK_MS = 1_000
LEAST = QSize(1024, 640)
FIRST = QSize(1280, 800)
OVERVIEW, EARNINGS = 0, 2
QUIET = (JoinNetwork, LeaveNetwork)


class MainWindow(QMainWindow):
    """`command_given` carries a Command, `retry_wanted` asks for the engine again; clock says the time."""

    command_given = Signal(object)
    retry_wanted = Signal()

    def __init__(self, theme: Theme, preferences: Preferences, *, clock: Callable[[], Now]) -> None:
        super().__init__()
        self._theme = theme
        self._preferences = preferences
        self._clock = clock
        self._state: NodeState | None = None
        self._link = Link()
        self._is_quitting = False
        self.setWindowTitle("Starling")
        self.setMinimumSize(LEAST)
        self.resize(FIRST)
        self._more = MoreMenu(theme, self)
        self._sidebar = Sidebar(theme)
        self._top = TopBar(theme, self._more)
        self._overview = OverviewPage(theme)
        self._jobs = JobsPage(theme, self._details)
        self._earnings = EarningsPage(theme)
        self._pages = QStackedWidget()
        ground = QWidget()
        self._lay_out(ground)
        self._toast = Toast(theme, ground)
        self._connect()
        self._tick = QTimer(self)
        self._tick.setInterval(TICK_MS)
        self._tick.timeout.connect(self._show)
        self._tick.start()
        self._paint_theme()
        self.show_page(OVERVIEW)

    def show_state(self, state: NodeState) -> None:
        """Another state of the node."""
        self._state = state
        self._more.show_state(state)
        self._show()

    def show_link(self, link: Link) -> None:
        """The link to the engine changed; after Quit its end is the end of the window."""
        self._link = link
        if self._is_quitting and link.phase is not LinkPhase.CONNECTED:
            self.close()
            return
        self._show()

    def show_page(self, number: int) -> None:
        """Overview, Jobs or Earnings."""
        self._pages.setCurrentIndex(number)
        self._sidebar.show_page(number)
        self._show()

    def tell(self, command: Command, reply: Reply) -> None:
        """What a command led to. Where the hero says it anyway, a plain Done is not repeated."""
        match reply:
            case Refused():
                self._is_quitting = False
                self._toast.tell(reply.reason, is_refusal=True)
            case Done() if reply.text and not isinstance(command, QUIET):
                self._toast.tell(reply.text)
            case Done():
                pass

    def tell_sentence(self, sentence: str) -> None:
        """A sentence at the foot of the window."""
        self._toast.tell(sentence)

    def give(self, command: Command) -> None:
        """Send a command on, or say that nobody is there to take it."""
        if self._link.phase is not LinkPhase.CONNECTED:
            if isinstance(command, QuitEngine):
                self.close()
                return
            self._toast.tell("The engine is not connected yet. Try again in a moment.", is_refusal=True)
            return
        self._is_quitting = isinstance(command, QuitEngine)
        self.command_given.emit(command)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """The toast stays in the middle."""
        super().resizeEvent(event)
        self._toast.place()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802
        """Closing leaves the engine running, and says so the first time."""
        self._preferences.keep_geometry(self.saveGeometry())
        is_alone = self._link.phase is not LinkPhase.CONNECTED or self._is_quitting
        if is_alone or self._preferences.knows_closing:
            event.accept()
            return
        answer = ask_farewell(self, self._state)
        if answer is Farewell.CLOSE_WINDOW:
            self._preferences.mark_closing_told()
            event.accept()
            return
        event.ignore()
        if answer is Farewell.QUIT_ENGINE:
            self.give(QuitEngine())

    def _show(self) -> None:
        """Only the page that is seen is drawn anew."""
        now = self._clock()
        shown = self._state if self._state is not None else NodeState()
        self._sidebar.show_frame(frame(self._state, self._link))
        page, payout = self._pages.currentIndex(), ""
        if page == OVERVIEW:
            self._overview.show_overview(overview(self._state, self._link, now=now))
        elif page == JOBS:
            self._jobs.show_jobs(jobs(shown, now))
        else:
            view = earnings_page(shown, now)
            payout = view.payout
            self._earnings.show_earnings(view)
        self._top.show_title(PAGES[page][0], payout)

    def _details(self, job_id: str) -> JobDetails | None:
        return details(self._state, job_id, now=self._clock()) if self._state is not None and job_id else None

    def _toggle_theme(self) -> None:
        self._theme.set_dark(not self._theme.colors.is_dark)
        self._preferences.choose_dark(self._theme.colors.is_dark)

    def _choose_motion(self, is_reduced: bool) -> None:
        self._theme.set_reduce_motion(is_reduced)
        self._preferences.choose_motion(is_reduced)

    def _paint_theme(self) -> None:
        self.setPalette(self._theme.palette())
        self.setStyleSheet(self._theme.stylesheet())

    def _export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export transactions", "starling-transactions.csv", "CSV (*.csv)")
        if not path or self._state is None:
            return
        try:
            Path(path).write_text(transactions_csv(self._state), encoding="utf-8")
        except OSError as error:
            self._toast.tell(f"The file could not be written: {error.strerror}. Choose another place.", is_refusal=True)
            return
        self._toast.tell(f"Transactions saved to {Path(path).name}.")

    def _connect(self) -> None:
        self._theme.changed.connect(self._paint_theme)
        self._top.theme_toggled.connect(self._toggle_theme)
        self._more.motion_chosen.connect(self._choose_motion)
        self._sidebar.page_wanted.connect(self.show_page)
        self._overview.jobs_wanted.connect(lambda: self.show_page(JOBS))
        self._overview.retry_wanted.connect(self.retry_wanted)
        self._earnings.export_wanted.connect(self._export)
        self._earnings.told.connect(self.tell_sentence)
        for source in (self._overview, self._jobs, self._earnings, self._more):
            source.command_given.connect(self.give)

    def _lay_out(self, ground: QWidget) -> None:
        for page in (self._overview, self._jobs, self._earnings):
            self._pages.addWidget(_scrolled(page))
        column = QVBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._top)
        column.addWidget(self._pages, 1)
        ground.setProperty("ground", "app")
        row = QHBoxLayout(ground)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self._sidebar)
        row.addLayout(column, 1)
        self.setCentralWidget(ground)
        ground.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        ground.setFocus()


def _scrolled(page: QWidget) -> QScrollArea:
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(page)
    return area
