"""A line without axes beside a figure.

Draws nothing when there are fewer than two points.
"""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.gui.chart_axis import smooth_path
from app.gui.theme import Theme


class Sparkline(QWidget):
    """The last point has a dot."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._points: tuple[float, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setFixedSize(78, 34)
        theme.changed.connect(self.update)

    def show_points(self, points: tuple[float, ...]) -> None:
        """Other points."""
        if points != self._points:
            self._points = points
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw the line and its end."""
        if len(self._points) < 2:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        room = QRectF(self.rect()).adjusted(2, 4, -4, -4)
        low, high = min(self._points), max(self._points)
        span = (high - low) or 1.0
        step = room.width() / (len(self._points) - 1)
        places = [
            QPointF(room.left() + index * step, room.bottom() - (value - low) / span * room.height())
            for index, value in enumerate(self._points)
        ]
        pen = QPen(self._theme.chart(0), 1.75)
        pen.setCapStyle(Qt.PenCapStyle.RoundCap)
        pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
        painter.strokePath(smooth_path(places), pen)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._theme.chart(0))
        painter.drawEllipse(places[-1], 2.75, 2.75)
