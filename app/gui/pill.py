"""A small coloured word with a dot or an icon before it.

`paint_pill` draws the same pill inside list rows; a Pill is the widget. Never decides its own tone.
"""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetricsF, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.gui.fonts import text_font
from app.gui.theme import Theme
from app.gui.views import PillView, Tone

HEIGHT = 22
SIDE = 9
MARK = 11


def pill_width(view: PillView) -> float:
    """How wide a pill is drawn, in pixels."""
    mark = (MARK + 5 if view.icon else MARK) if view.text else MARK
    return QFontMetricsF(text_font(12, 500)).horizontalAdvance(view.text) + mark + 2 * SIDE


def paint_pill(painter: QPainter, theme: Theme, *, view: PillView, at: QPointF) -> None:
    """Draw a pill whose left middle is at this point."""
    ground = QRectF(at.x(), at.y() - HEIGHT / 2, pill_width(view), HEIGHT)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(theme.soft(view.tone))
    painter.drawRoundedRect(ground, HEIGHT / 2, HEIGHT / 2)
    color = theme.tone(view.tone)
    text_at = ground.left() + SIDE + MARK
    if view.icon:
        theme.paint_icon(painter, view.icon, rect=QRectF(ground.left() + SIDE - 2, at.y() - 6.5, 13, 13), color=color)
        text_at += 5
    else:
        painter.setBrush(color)
        painter.drawEllipse(QPointF(ground.left() + SIDE + 3, at.y()), 3, 3)
    painter.setPen(color)
    painter.setFont(text_font(12, 500))
    room = QRectF(text_at, ground.top(), ground.right() - text_at, HEIGHT)
    painter.drawText(room, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft), view.text)


class Pill(QWidget):
    """The widget; as wide as its word."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._view = PillView("", Tone.NEUTRAL)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    @property
    def view(self) -> PillView:
        """What is shown."""
        return self._view

    def show_pill(self, view: PillView) -> None:
        """Another word."""
        if view != self._view:
            self._view = view
            self.setAccessibleName(view.text)
            self.updateGeometry()
            self.update()

    def sizeHint(self) -> QSize:  # noqa: N802
        """Its own width and height."""
        return QSize(int(pill_width(self._view) + 0.99), HEIGHT)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw it."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self._view.text:
            paint_pill(painter, self._theme, view=self._view, at=QPointF(0, HEIGHT / 2))
