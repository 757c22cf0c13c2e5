"""Draws a job as a row of the jobs page.

Never shows a prompt or an answer; a JobRow does not hold them.
"""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QFontMetricsF, QPainter

from app.gui.bar import paint_bar
from app.gui.columns import Column, Place
from app.gui.fonts import text_font
from app.gui.ink import RIGHT, Ink, write
from app.gui.pill import paint_pill
from app.gui.theme import Theme
from app.gui.views import JobRow, Tone

LEVELS = 3


def live_columns(unit: str) -> tuple[Column, ...]:
    """Of running and waiting jobs."""
    return (
        Column("State", 132),
        Column("Model", 118, 2),
        Column("Priority", 106, 1, rank=2),
        Column("Tokens", 112, 1, rank=1),
        Column("Deadline", 88),
        Column(unit, 76, is_right=True),
    )


def history_columns(unit: str) -> tuple[Column, ...]:
    """Of jobs that are over."""
    return (
        Column("State", 112),
        Column("Model", 118, 2),
        Column("Ended", 124, 1),
        Column("Tokens", 70, 1, rank=1),
        Column("Deadline", 100, rank=2),
        Column(unit, 76, is_right=True),
    )


class JobPainter:
    """A RowPainter for JobRow."""

    height = 54

    def __init__(self, theme: Theme, columns: tuple[Column, ...]) -> None:
        self._theme = theme
        self.columns = columns

    def key(self, row: JobRow) -> str:
        """The job's id."""
        return row.job_id

    def spoken(self, row: JobRow) -> str:
        """The row in words."""
        return f"{row.pill.text}, {row.title}, {row.tokens}, {row.deadline}, {row.amount}"

    def paint(self, painter: QPainter, row: JobRow, rect: QRectF, where: dict[str, Place]) -> None:
        """Draw one job."""
        middle = rect.center().y()
        paint_pill(painter, self._theme, view=row.pill, at=QPointF(where["State"].left, middle))
        self._paint_model(painter, row, cell=_cell(where["Model"], rect))
        if "Priority" in where:
            self._paint_priority(painter, row, cell=_cell(where["Priority"], rect))
        if "Tokens" in where:
            self._paint_tokens(painter, row, cell=_cell(where["Tokens"], rect))
        if "Ended" in where:
            self._write(painter, row.ended, cell=_cell(where["Ended"], rect), role="text2")
        if "Deadline" in where:
            tone = row.deadline_tone
            color = self._theme.tone(tone) if tone is not Tone.NEUTRAL else self._theme.color("text")
            ink = Ink(text_font(13, 400 if tone is Tone.NEUTRAL else 600), color)
            write(painter, row.deadline, rect=_cell(where["Deadline"], rect), ink=ink)
        ink = Ink(text_font(13, 500), self._theme.color("text"), RIGHT)
        write(painter, row.amount, rect=_cell(where[self.columns[-1].name], rect, gap=0), ink=ink)

    def _paint_model(self, painter: QPainter, row: JobRow, *, cell: QRectF) -> None:
        upper = QRectF(cell.left(), cell.center().y() - 18, cell.width(), 18)
        lower = QRectF(cell.left(), cell.center().y() + 1, cell.width(), 16)
        write(painter, row.title, rect=upper, ink=Ink(text_font(13, 600), self._theme.color("text")))
        ink = Ink(text_font(12), self._theme.color("text2"))
        note = " · ".join(part for part in (row.variant, row.quality) if part)
        has_room = QFontMetricsF(ink.font).horizontalAdvance(note) <= cell.width()
        write(painter, note if has_room or not row.variant else row.variant, rect=lower, ink=ink)

    def _paint_priority(self, painter: QPainter, row: JobRow, *, cell: QRectF) -> None:
        """Three rising bars, as many filled as the class is urgent."""
        painter.setPen(Qt.PenStyle.NoPen)
        foot = cell.center().y() + 5
        for level in range(LEVELS):
            height = 4 + 3.2 * level
            is_on = level < row.priority_level
            painter.setBrush(self._theme.color("text" if is_on else "strong"))
            painter.drawRoundedRect(QRectF(cell.left() + 5 * level, foot - height, 3.2, height), 1, 1)
        self._write(painter, row.priority, cell=cell.adjusted(22, 0, 0, 0), role="text2")

    def _paint_tokens(self, painter: QPainter, row: JobRow, *, cell: QRectF) -> None:
        if row.fraction is None:
            self._write(painter, row.tokens, cell=cell, role="text2")
            return
        upper = QRectF(cell.left(), cell.center().y() - 18, cell.width(), 16)
        write(painter, row.tokens, rect=upper, ink=Ink(text_font(12), self._theme.color("text2")))
        color = self._theme.chart(0) if row.bar_tone is Tone.ACCENT else self._theme.color("info")
        bar = QRectF(cell.left(), cell.center().y() + 5, min(90.0, cell.width()), 5)
        paint_bar(painter, bar, fraction=row.fraction, color=color, ground=self._theme.color("neutral_soft"))

    def _write(self, painter: QPainter, words: str, *, cell: QRectF, role: str) -> None:
        write(painter, words, rect=cell, ink=Ink(text_font(13), self._theme.color(role)))


def _cell(place: Place, rect: QRectF, *, gap: float = 10.0) -> QRectF:
    return QRectF(rect.left() + place.left, rect.top(), place.width - gap, rect.height())
