"""What each model earned, as named bars in the colours of the day chart.

Only shows.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.gui.bar import BarView
from app.gui.card import Card, Empty, heading, line
from app.gui.fonts import text_font
from app.gui.label import IconView, Label
from app.gui.theme import Theme
from app.gui.views import BarRow

ROWS = 5


class Dot(QWidget):
    """A chart colour."""

    def __init__(self, theme: Theme, chart: int) -> None:
        super().__init__()
        self._theme = theme
        self._chart = chart
        self.setFixedSize(8, 8)
        theme.changed.connect(self.update)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw it."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._theme.chart(self._chart))
        painter.drawEllipse(self.rect())


class ShareRow(QWidget):
    """Dot, name, amount, bar and a note."""

    def __init__(self, theme: Theme, chart: int) -> None:
        super().__init__()
        self._label = Label(font=text_font(13, 500), is_elided=True)
        self._text = Label(font=text_font(13, 500))
        self._bar = BarView(theme, height=5, chart=chart)
        self._note = Label(font=text_font(12), tone="text2", is_elided=True)
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(Dot(theme, chart))
        head.addWidget(self._label, 1)
        head.addWidget(self._text)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        column.addLayout(head)
        column.addWidget(self._bar)
        column.addWidget(self._note)

    def show_row(self, row: BarRow, *, has_note: bool) -> None:
        """Another share; the note goes first when there are many."""
        self._label.show_text(row.label)
        self._text.show_text(row.text)
        self._bar.show_fraction(row.fraction)
        self._note.show_text(row.note)
        self._note.setVisible(has_note)


class ModelShares(Card):
    """The By model card."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(margins=(18, 14, 18, 12), spacing=6)
        self._rows = [ShareRow(theme, chart) for chart in range(ROWS)]
        self._empty = Empty(theme, "layers")
        self._empty.show_words("No model has earned yet", "Shares appear with the first job.", icon="layers")
        self._footer = Label(font=text_font(12), tone="text2", is_elided=True)
        head = QHBoxLayout()
        head.addWidget(heading("By model"))
        head.addStretch(1)
        head.addWidget(Label("all time", font=text_font(12), tone="text2"))
        self.column.addLayout(head)
        self.column.addStretch(1)
        for row in self._rows:
            self.column.addWidget(row)
            self.column.addStretch(1)
        self.column.addWidget(self._empty, 60)
        self.column.addWidget(line())
        foot = QHBoxLayout()
        foot.setSpacing(6)
        foot.addWidget(IconView(theme, "cpu", size=14))
        foot.addWidget(self._footer, 1)
        self.column.addLayout(foot)
        self.show_models((), "")

    def show_models(self, rows: tuple[BarRow, ...], note: str) -> None:
        """Other shares."""
        for index, row in enumerate(self._rows):
            row.setVisible(index < len(rows))
            if index < len(rows):
                row.show_row(rows[index], has_note=len(rows) <= 3)
        self._empty.setVisible(not rows)
        self._footer.show_text(note)
