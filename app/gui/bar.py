"""A thin horizontal bar: progress of a job, a meter, a share.

`paint_bar` draws it in list rows; BarView is the widget. Never animates.
"""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.gui.theme import Theme


def paint_bar(painter: QPainter, rect: QRectF, *, fraction: float, color: QColor, ground: QColor) -> None:
    """A rounded bar in rect; a fraction above zero is never drawn narrower than its own rounding."""
    radius = rect.height() / 2
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(ground)
    painter.drawRoundedRect(rect, radius, radius)
    if fraction <= 0:
        return
    filled = QRectF(rect)
    filled.setWidth(max(rect.height(), rect.width() * min(1.0, fraction)))
    painter.setBrush(color)
    painter.drawRoundedRect(filled, radius, radius)


class BarView(QWidget):
    """A bar in a colour role of the theme, or in one of its chart colours. ours draws a second, stronger part."""

    def __init__(self, theme: Theme, *, height: int = 6, chart: int = 0) -> None:
        super().__init__()
        self._theme = theme
        self._fraction = 0.0
        self._ours: float | None = None
        self._chart = chart
        self.setFixedHeight(height)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_fraction(self, fraction: float | None, ours: float | None = None) -> None:
        """0 to 1; None draws the empty ground."""
        shown = fraction if fraction is not None else 0.0
        if (shown, ours) != (self._fraction, self._ours):
            self._fraction, self._ours = shown, ours
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw it; what is not ours is paler."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        color, ground = self._theme.chart(self._chart), self._theme.color("neutral_soft")
        others = QColor(color)
        if self._ours is not None:
            others.setAlphaF(0.45)
        rect = QRectF(self.rect())
        paint_bar(painter, rect, fraction=self._fraction, color=others, ground=ground)
        if self._ours:
            clear = QColor(Qt.GlobalColor.transparent)
            paint_bar(painter, rect, fraction=min(self._ours, self._fraction), color=color, ground=clear)
