"""The Running now card of the overview: the jobs in the worker, and what waits behind them.

Never shows a prompt or an answer.
"""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QStackedLayout, QVBoxLayout, QWidget

from app.gui.bar import BarView
from app.gui.button import Button
from app.gui.card import Card, Empty, heading, line
from app.gui.fonts import text_font
from app.gui.label import IconView, Label
from app.gui.served import joined
from app.gui.theme import Theme
from app.gui.views import JobRow, Running, Tone

ROWS = 3
ROW_HEIGHT = 45
SPEED_WIDTH = 520
LEAST_WIDTH = 400


class RunningRow(QWidget):
    """One job: model, progress, speed, deadline, money."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setFixedHeight(ROW_HEIGHT)
        self._title = Label(font=text_font(13, 600), is_elided=True)
        self._note = Label(font=text_font(12), tone="text2", is_elided=True)
        self._tokens = Label(font=text_font(12), tone="text2", is_elided=True)
        self._bars = {Tone.ACCENT: BarView(theme, height=5), Tone.INFO: BarView(theme, height=5, chart=1)}
        self._speed = Label(font=text_font(13), tone="text2")
        self._speed.setFixedWidth(74)
        self._deadline = Label(font=text_font(13, 500))
        self._amount = Label(font=text_font(13, 500))
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 4, 0, 4)
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(1)
        grid.addWidget(self._title, 0, 0)
        grid.addWidget(self._note, 1, 0)
        grid.addWidget(self._tokens, 0, 1)
        for bar in self._bars.values():
            grid.addWidget(bar, 1, 1)
        for column, label in ((2, self._speed), (3, self._deadline), (4, self._amount)):
            label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            grid.addWidget(label, 0, column, 2, 1)
        for column, (stretch, width) in enumerate(((6, 96), (4, 80), (0, 0), (0, 70), (0, 104))):
            grid.setColumnStretch(column, stretch)
            grid.setColumnMinimumWidth(column, width)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """The speed goes first when there is no room."""
        super().resizeEvent(event)
        self._speed.setVisible(self.width() >= SPEED_WIDTH)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Narrow enough for the smallest window."""
        return QSize(LEAST_WIDTH, ROW_HEIGHT)

    def show_row(self, row: JobRow, unit: str) -> None:
        """Another job, or the same further on."""
        self._title.show_text(joined(row.title, row.variant))
        self._note.show_text(joined(row.priority, row.quality))
        self._tokens.show_text(f"{row.tokens} tokens" if "/" in row.tokens else row.tokens)
        for tone, bar in self._bars.items():
            bar.setVisible(tone is row.bar_tone)
            bar.show_fraction(row.fraction)
        self._speed.show_text(row.speed)
        self._deadline.show_text(row.deadline, "text" if row.deadline_tone is Tone.NEUTRAL else row.deadline_tone.value)
        self._amount.show_text(f"{row.amount} {unit}".rstrip() if row.amount != "–" else row.amount)


class RunningCard(Card):
    """`all_wanted` asks for the jobs page."""

    all_wanted = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__(margins=(18, 10, 18, 12), spacing=0)
        self._title = heading("Running now")
        self._all = Button(theme, "View all jobs", kind="ghost").named("view_all_jobs")
        self._all.clicked.connect(self.all_wanted)
        self._rows = [RunningRow(theme) for _ in range(ROWS)]
        self._lines = [line() for _ in range(ROWS - 1)]
        self._footer = Label(font=text_font(12), tone="text2", is_elided=True)
        self._footer_icon = IconView(theme, "clock", size=14)
        self._empty = Empty(theme, "moon")
        self._filled = QWidget()
        self._lay_out()

    def show_running(self, view: Running, unit: str) -> None:
        """Other jobs; unit is the money's symbol."""
        self._title.show_text(view.title)
        for index, row in enumerate(self._rows):
            row.setVisible(index < len(view.rows))
            if index < len(view.rows):
                row.show_row(view.rows[index], unit)
        for index, hairline in enumerate(self._lines):
            hairline.setVisible(index + 1 < len(view.rows))
        self._footer.show_text(view.footer)
        self._footer_icon.setVisible(bool(view.footer))
        self._empty.show_words(view.empty_title, view.empty_text, icon=view.empty_icon)
        self._stack.setCurrentWidget(self._filled if view.rows else self._empty)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.addWidget(self._title)
        head.addStretch(1)
        head.addWidget(self._all)
        rows = QVBoxLayout(self._filled)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(0)
        for index, row in enumerate(self._rows):
            rows.addWidget(row)
            if index < len(self._lines):
                rows.addWidget(self._lines[index])
        rows.addStretch(1)
        foot = QHBoxLayout()
        foot.setSpacing(6)
        foot.addWidget(self._footer_icon)
        foot.addWidget(self._footer, 1)
        rows.addLayout(foot)
        self._stack = QStackedLayout()
        self._stack.addWidget(self._empty)
        self._stack.addWidget(self._filled)
        self.column.addLayout(head)
        self.column.addLayout(self._stack, 1)
