"""Draws a transaction as a row of the earnings page.

Only draws.
"""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QPainter

from app.gui.columns import Column, Place
from app.gui.fonts import mono_font, text_font
from app.gui.ink import RIGHT, Ink, write
from app.gui.pill import paint_pill
from app.gui.theme import Theme
from app.gui.views import Tone, TransactionRow

COLUMNS: tuple[Column, ...] = (
    Column("When", 140, 2),
    Column("What", 210, 6),
    Column("State", 116, 1),
    Column("Transaction", 124, 1, rank=1),
    Column("Amount", 100, 1, is_right=True),
)


class TransactionPainter:
    """A RowPainter for TransactionRow."""

    height = 42

    def __init__(self, theme: Theme) -> None:
        self._theme = theme
        self.columns: tuple[Column, ...] = COLUMNS

    def key(self, row: TransactionRow) -> str:
        """The transaction's hash."""
        return row.transaction

    def spoken(self, row: TransactionRow) -> str:
        """The row in words."""
        return f"{row.when}, {row.what}, {row.pill.text}, {row.amount}"

    def paint(self, painter: QPainter, row: TransactionRow, rect: QRectF, where: dict[str, Place]) -> None:
        """Draw one transaction."""
        middle = rect.center().y()
        plain = Ink(text_font(13), self._theme.color("text2"))
        write(painter, row.when, rect=_cell(where["When"], rect), ink=plain)
        what = _cell(where["What"], rect)
        box = QRectF(what.left(), middle - 12, 24, 24)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._theme.color("neutral_soft"))
        painter.drawRoundedRect(box, 6, 6)
        icon = box.adjusted(5, 5, -5, -5)
        self._theme.paint_icon(painter, row.icon, rect=icon, color=self._theme.color("text2"))
        bold = Ink(text_font(13, 500), self._theme.color("text"))
        write(painter, row.what, rect=what.adjusted(34, 0, 0, 0), ink=bold)
        paint_pill(painter, self._theme, view=row.pill, at=QPointF(where["State"].left, middle))
        if "Transaction" in where:
            ink = Ink(mono_font(12), self._theme.color("text2"))
            write(painter, row.short, rect=_cell(where["Transaction"], rect), ink=ink)
        color = self._theme.tone(row.amount_tone) if row.amount_tone is Tone.ACCENT else self._theme.color("text")
        write(painter, row.amount, rect=_cell(where["Amount"], rect, gap=0), ink=Ink(text_font(13, 600), color, RIGHT))


def _cell(place: Place, rect: QRectF, *, gap: float = 10.0) -> QRectF:
    return QRectF(rect.left() + place.left, rect.top(), place.width - gap, rect.height())
