"""The small box beside the pointer on a chart.

Only draws; never leaves the plot.
"""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QFontMetricsF, QPainter, QPen

from app.gui.fonts import text_font
from app.gui.theme import Theme

HEIGHT = 40
SIDE = 10
AWAY = 12


def paint_tip(painter: QPainter, theme: Theme, *, plot: QRectF, at: QPointF, words: tuple[str, str]) -> None:
    """Draw a title and a note beside a point, on the side that has room."""
    title, note = words
    bold, small = text_font(13, 600), text_font(11)
    width = max(QFontMetricsF(bold).horizontalAdvance(title), QFontMetricsF(small).horizontalAdvance(note)) + 2 * SIDE
    left = at.x() + AWAY
    if left + width > plot.right():
        left = max(plot.left(), at.x() - AWAY - width)
    top = min(max(at.y() - HEIGHT + 6, plot.top()), plot.bottom() - HEIGHT)
    box = QRectF(left, top, width, HEIGHT)
    painter.setPen(QPen(theme.color("strong"), 1))
    painter.setBrush(theme.color("raised" if theme.colors.is_dark else "surface"))
    painter.drawRoundedRect(box, 8, 8)
    flags = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    painter.setPen(theme.color("text"))
    painter.setFont(bold)
    painter.drawText(QRectF(left + SIDE, top + 4, width, 17), flags, title)
    painter.setPen(theme.color("text2"))
    painter.setFont(small)
    painter.drawText(QRectF(left + SIDE, top + 20, width, 16), flags, note)
