"""A row of choices of which one is on.

Never remembers a choice for longer than it lives.
"""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.gui.fonts import text_font
from app.gui.theme import Theme

HEIGHT = 32
SIDE = 13
INSET = 3


class Segmented(QWidget):
    """Choices side by side; arrow keys move. `chosen` carries the index."""

    chosen = Signal(int)

    def __init__(self, theme: Theme, choices: Sequence[str], *, index: int = 0) -> None:
        super().__init__()
        self._theme = theme
        self._choices = list(choices)
        self._index = index
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    @property
    def index(self) -> int:
        """Which choice is on."""
        return self._index

    def show_choices(self, choices: Sequence[str]) -> None:
        """Other words for the same choices."""
        if list(choices) != self._choices:
            self._choices = list(choices)
            self.updateGeometry()
            self.update()

    def choose(self, index: int) -> None:
        """Turn one on."""
        if index != self._index and 0 <= index < len(self._choices):
            self._index = index
            self.update()
            self.chosen.emit(index)

    def sizeHint(self) -> QSize:  # noqa: N802
        """As wide as its words."""
        return QSize(sum(self._widths()) + 2 * INSET, HEIGHT)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Choose what is under the pointer."""
        for index, rect in enumerate(self._rects()):
            if rect.contains(event.position()):
                self.choose(index)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Left and right move the choice."""
        step = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(Qt.Key(event.key()), 0)
        if step:
            self.choose(self._index + step)
        else:
            super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw the ground, the raised choice and the words."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        edge = self._theme.color("accent" if self.hasFocus() else "border")
        painter.setPen(QPen(edge, 1))
        painter.setBrush(self._theme.color("inset"))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 8, 8)
        for index, rect in enumerate(self._rects()):
            self._paint_choice(painter, index, rect=rect)

    def _paint_choice(self, painter: QPainter, index: int, *, rect: QRectF) -> None:
        is_on = index == self._index
        if is_on:
            colors = self._theme.colors
            painter.setPen(QPen(self._theme.color("raised" if colors.is_dark else "border"), 1))
            painter.setBrush(self._theme.color("raised"))
            painter.drawRoundedRect(rect.adjusted(0.5, 0.5, -0.5, -0.5), 6, 6)
        painter.setPen(self._theme.color("text" if is_on else "text2"))
        painter.setFont(text_font(13, 600 if is_on else 500))
        painter.drawText(rect, int(Qt.AlignmentFlag.AlignCenter), self._choices[index])

    def _widths(self) -> list[int]:
        metrics = QFontMetrics(text_font(13, 600))
        return [metrics.horizontalAdvance(choice) + 2 * SIDE for choice in self._choices]

    def _rects(self) -> list[QRectF]:
        left = float(INSET)
        rects = []
        for width in self._widths():
            rects.append(QRectF(left, INSET, width, HEIGHT - 2 * INSET))
            left += width
        return rects
