"""One figure of the overview's top row, with a note and a sparkline.

Only shows.
"""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QFontMetrics, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout

from app.gui.card import Card
from app.gui.fonts import display_font, text_font
from app.gui.label import IconView, Label
from app.gui.sparkline import Sparkline
from app.gui.theme import Theme
from app.gui.views import Tile

HEIGHT = 96
LEAST_WIDTH = 160
SIDE = 16
FIGURE = 26
LINE_WIDTH = 78
LEAST_LINE = 44
WITH_LINE = 224


class TileCard(Card):
    """96 high."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(margins=(SIDE, 11, SIDE, 11), spacing=2)
        self._icon = IconView(theme, "circle", size=15)
        self._label = Label(font=text_font(12, 500), tone="text2", is_elided=True)
        self._value = Label(font=display_font(FIGURE))
        self._unit = Label(font=text_font(12, 500), tone="text3")
        self._note = Label(font=text_font(12), tone="text2", is_elided=True)
        self._line = Sparkline(theme)
        self._has_line = False
        self.setFixedHeight(HEIGHT)
        self._lay_out()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """The sparkline gives way to the figure."""
        super().resizeEvent(event)
        self._fit()

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """All tiles of a row are equally wide."""
        return QSize(LEAST_WIDTH, HEIGHT)

    def sizeHint(self) -> QSize:  # noqa: N802
        """All tiles of a row are equally wide."""
        return QSize(LEAST_WIDTH, HEIGHT)

    @property
    def value(self) -> str:
        """The figure as it is written."""
        return self._value.whole

    def show_tile(self, tile: Tile) -> None:
        """Another figure."""
        self._icon.show_icon(tile.icon, "text3")
        self._label.show_text(tile.label)
        self._value.show_text(tile.value)
        self._unit.show_text(tile.unit)
        tone = tile.note_tone.value if tile.note_tone.value != "neutral" else "text2"
        self._note.show_text(tile.note, tone)
        self._line.show_points(tile.points)
        self._has_line = len(tile.points) > 1
        self._fit()

    def _fit(self) -> None:
        """The figure always has room: first the sparkline gets narrower and goes, then the unit, then it shrinks."""
        room = self.width() - 2 * SIDE
        for size, has_unit in ((FIGURE, True), (FIGURE, False), (20, False), (16, False)):
            font = display_font(size)
            unit = self._unit.fontMetrics().horizontalAdvance(self._unit.whole) + 8 if has_unit else 0
            figure = QFontMetrics(font).horizontalAdvance(self._value.whole) + unit
            if figure <= room:
                break
        self._value.setFont(font)
        self._unit.setVisible(has_unit)
        spare = min(LINE_WIDTH, room - figure - 10)
        self._line.setFixedWidth(max(LEAST_LINE, spare))
        self._line.setVisible(self._has_line and spare >= LEAST_LINE and self.width() >= WITH_LINE)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(5)
        head.addWidget(self._icon)
        head.addWidget(self._label, 1)
        figure = QHBoxLayout()
        figure.setSpacing(7)
        figure.addWidget(self._value)
        figure.addWidget(self._unit, 0, Qt.AlignmentFlag.AlignBottom)
        figure.addStretch(1)
        self._unit.setContentsMargins(0, 0, 0, 4)
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addLayout(figure)
        words.addWidget(self._note)
        foot = QHBoxLayout()
        foot.setSpacing(8)
        foot.addLayout(words, 1)
        foot.addWidget(self._line, 0, Qt.AlignmentFlag.AlignBottom)
        self.column.addLayout(head)
        self.column.addLayout(foot)
