"""The jobs page: running, waiting in the order the scheduler takes them, history, and one job's details.

Sends commands as values. Never shows a prompt or an answer.
"""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QStackedWidget, QVBoxLayout, QWidget

from app.gui.card import Card, Empty, line
from app.gui.figures import count
from app.gui.fonts import text_font
from app.gui.job_painter import JobPainter, history_columns, live_columns
from app.gui.job_panel import JobPanel
from app.gui.label import IconView, Label
from app.gui.row_list import RowList
from app.gui.segmented import Segmented
from app.gui.theme import Theme
from app.gui.views import JobDetails, JobRow, Jobs

LIVE, HISTORY = 0, 1
Details = Callable[[str], JobDetails | None]


class JobsPage(QWidget):
    """details_of answers with the details of a job id, or None when it is not known."""

    command_given = Signal(object)

    def __init__(self, theme: Theme, details_of: Details) -> None:
        super().__init__()
        self.setProperty("ground", "app")
        self._details_of = details_of
        self._view: Jobs | None = None
        self._opened = ""
        self._tabs = Segmented(theme, ["Live", "History"])
        self._tabs.setObjectName("jobs_tabs")
        self._search = QLineEdit()
        self._search.setObjectName("search_jobs")
        self._search.setFont(text_font(13))
        self._search.setPlaceholderText("Search job ID or model")
        self._search.setClearButtonEnabled(True)
        self._search.setFixedWidth(232)
        self._lists = (
            RowList(theme, JobPainter(theme, live_columns("Earned"))),
            RowList(theme, JobPainter(theme, history_columns("Earned"))),
        )
        self._lists[LIVE].setObjectName("live_jobs")
        self._lists[HISTORY].setObjectName("past_jobs")
        self._empty = Empty(theme, "inbox")
        self._panel = JobPanel(theme)
        self._panel.hide()
        self._summary = Label(font=text_font(13, 600))
        self._summary_note = Label(font=text_font(13), tone="text2", is_elided=True)
        self._average = Label(font=text_font(12), tone="text2")
        self._summary_icon = IconView(theme, "circle-check", size=16, role="accent_text")
        self._lay_out()
        self._connect()

    def show_jobs(self, view: Jobs) -> None:
        """Other jobs, or a later second."""
        self._view = view
        live = len(view.running) + len(view.waiting)
        self._tabs.show_choices([f"Live  {count(live)}" if live else "Live", "History"])
        self._summary.show_text(view.summary)
        self._summary_note.show_text(view.summary_note)
        self._average.show_text(view.average)
        self._show_rows(view)
        self._show_details()

    def _show_rows(self, view: Jobs) -> None:
        self._lists[LIVE].show_columns(live_columns(view.unit))
        self._lists[HISTORY].show_columns(history_columns(view.unit))
        running, waiting = self._found(view.running), self._found(view.waiting)
        groups: list[JobRow | str] = []
        for name, rows in (("Running", running), ("Waiting", waiting)):
            if rows:
                groups += [f"{name}  {count(len(rows))}", *rows]
        past = self._found(view.history)
        self._lists[LIVE].show_rows(groups)
        self._lists[HISTORY].show_rows(past)
        shown = past if self._tabs.index == HISTORY else groups
        self._stack.setCurrentWidget(self._lists[self._tabs.index] if shown else self._empty)
        self._show_empty(view)

    def _show_empty(self, view: Jobs) -> None:
        if self._search.text():
            self._empty.show_words("Nothing found", "No job here has this id or model.", icon="search")
        elif self._tabs.index == HISTORY:
            text = "Every job that ends is kept here, without its words."
            self._empty.show_words("No history yet", text, icon="inbox")
        else:
            self._empty.show_words(view.empty_title, view.empty_text, icon="inbox")

    def _found(self, rows: tuple[JobRow, ...]) -> list[JobRow]:
        wanted = self._search.text().strip().lower()
        return [row for row in rows if not wanted or wanted in f"{row.job_id} {row.title}".lower()]

    def _show_details(self) -> None:
        """A job that ends while it is looked at stays in view, though its row has left the list."""
        self._opened = self._lists[self._tabs.index].picked_key() or self._opened
        details = self._details_of(self._opened)
        self._panel.setVisible(details is not None)
        if details is not None:
            self._panel.show_details(details)

    def _refresh(self) -> None:
        if self._view is not None:
            self.show_jobs(self._view)

    def _change_tab(self) -> None:
        self._opened = ""
        self._refresh()

    def _close_details(self) -> None:
        self._opened = ""
        for rows in self._lists:
            rows.pick("")
        self._panel.hide()

    def _connect(self) -> None:
        self._tabs.chosen.connect(self._change_tab)
        self._search.textChanged.connect(self._refresh)
        self._panel.command_given.connect(self.command_given)
        self._panel.closed.connect(self._close_details)
        for rows in self._lists:
            rows.picked.connect(self._show_details)

    def _lay_out(self) -> None:
        tools = QHBoxLayout()
        tools.addWidget(self._tabs)
        tools.addStretch(1)
        tools.addWidget(self._search)
        self._stack = QStackedWidget()
        for widget in (*self._lists, self._empty):
            self._stack.addWidget(widget)
        card = Card(margins=(0, 0, 0, 0), spacing=0)
        card.column.addWidget(self._stack, 1)
        card.column.addWidget(line())
        card.column.addWidget(self._footer())
        body = QHBoxLayout()
        body.setSpacing(14)
        body.addWidget(card, 1)
        body.addWidget(self._panel)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 0, 24, 20)
        column.setSpacing(14)
        column.addLayout(tools)
        column.addLayout(body, 1)

    def _footer(self) -> QWidget:
        footer = QWidget()
        footer.setFixedHeight(42)
        layout = QHBoxLayout(footer)
        layout.setContentsMargins(16, 0, 16, 0)
        layout.setSpacing(8)
        layout.addWidget(self._summary_icon)
        layout.addWidget(self._summary)
        layout.addSpacing(8)
        layout.addWidget(self._summary_note, 1)
        layout.addWidget(self._average)
        return footer
