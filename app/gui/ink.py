"""Text that is painted inside list rows: font, colour and side in one value, cut with an ellipsis where it has no room.

Only draws.
"""

from __future__ import annotations

from typing import NamedTuple

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter

LEFT = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)


class Ink(NamedTuple):
    """How text is drawn."""

    font: QFont
    color: QColor
    side: int = LEFT


def write(painter: QPainter, words: str, *, rect: QRectF, ink: Ink) -> None:
    """Draw words into rect."""
    painter.setFont(ink.font)
    painter.setPen(ink.color)
    shown = QFontMetricsF(ink.font).elidedText(words, Qt.TextElideMode.ElideRight, rect.width())
    painter.drawText(rect, ink.side, shown)
