"""The network card of the overview: how this computer stands among its peers, and what was asked of it.

Only shows.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from app.gui.bar import BarView
from app.gui.card import Card, heading
from app.gui.fonts import text_font
from app.gui.label import Label
from app.gui.pill import Pill
from app.gui.theme import Theme
from app.gui.views import BarRow
from app.gui.views import NetworkCard as NetworkView

ROWS = 3
STATS = 3


class ShareRow(QWidget):
    """A name, a bar and a figure in one line."""

    def __init__(self, theme: Theme, chart: int) -> None:
        super().__init__()
        self._label = Label(font=text_font(12, 500), tone="text2", is_elided=True)
        self._label.setFixedWidth(104)
        self._label.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
        self._bar = BarView(theme, height=5, chart=chart)
        self._text = Label(font=text_font(12), tone="text2")
        self._text.setFixedWidth(38)
        self._text.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(8)
        line.addWidget(self._label)
        line.addWidget(self._bar, 1)
        line.addWidget(self._text)

    def show_row(self, row: BarRow) -> None:
        """Another share."""
        self._label.show_text(row.label)
        self._bar.show_fraction(row.fraction)
        self._text.show_text(row.text)


class NetworkCard(Card):
    """Pill, three figures, demand by model."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(margins=(18, 11, 18, 13), spacing=6)
        self._pill = Pill(theme)
        self._stats = [(Label(font=text_font(13, 600)), Label(font=text_font(12), tone="text2")) for _ in range(STATS)]
        self._caption = Label(font=text_font(12), tone="text2", is_elided=True)
        self._rows = [ShareRow(theme, chart) for chart in range(ROWS)]
        self._empty = Label(font=text_font(12), tone="text3")
        self._empty.setWordWrap(True)
        self._lay_out()

    def show_network(self, view: NetworkView) -> None:
        """Another standing."""
        self._pill.show_pill(view.pill)
        for (value, label), (text, name) in zip(self._stats, view.stats, strict=True):
            value.show_text(text)
            label.show_text(name)
        self._caption.show_text(view.caption)
        for index, row in enumerate(self._rows):
            row.setVisible(index < len(view.rows))
            if index < len(view.rows):
                row.show_row(view.rows[index])
        self._empty.setVisible(not view.rows)
        self._empty.show_text(view.empty_text)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.addWidget(heading("Network"))
        head.addStretch(1)
        head.addWidget(self._pill)
        stats = QHBoxLayout()
        for index, (value, label) in enumerate(self._stats):
            if index:
                stats.addStretch(1)
            column = QVBoxLayout()
            column.setSpacing(0)
            column.addWidget(value)
            column.addWidget(label)
            stats.addLayout(column)
        self.column.addLayout(head)
        self.column.addLayout(stats)
        self.column.addSpacing(6)
        self.column.addWidget(self._caption)
        self.column.addSpacing(4)
        for row in self._rows:
            self.column.addWidget(row)
            self.column.addSpacing(8)
        self.column.addWidget(self._empty)
        self.column.addStretch(4)
