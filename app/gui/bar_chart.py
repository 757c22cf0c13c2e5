"""Stacked bars, one a day or a month, with what the pointer is on.

Never sums anything up: the bars come with their words.
"""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QFontMetricsF, QMouseEvent, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.gui.chart_axis import axis_width, round_steps, step_text
from app.gui.chart_tip import paint_tip
from app.gui.fonts import text_font
from app.gui.theme import Theme
from app.gui.views import Bar, Bars

TOP, RIGHT, BOTTOM = 10, 4, 24
FILL = 0.62
MOST_WIDTH = 44.0


class BarChart(QWidget):
    """Amounts by day, stacked by model."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._view = Bars((), (), 1, "")
        self._pointed: int | None = None
        self.setMouseTracking(True)
        self.setMinimumHeight(130)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        theme.changed.connect(self.update)

    def show_bars(self, view: Bars) -> None:
        """Other bars."""
        if view != self._view:
            self._view = view
            self.update()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Show the bar under the pointer."""
        plot = self._plot()
        share = (event.position().x() - plot.left()) / max(1.0, plot.width())
        index = int(share * len(self._view.bars))
        self._pointed = index if share >= 0 and index < len(self._view.bars) else None
        self.update()

    def leaveEvent(self, event: object) -> None:  # noqa: N802
        """Hide it again."""
        self._pointed = None
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw grid, bars, labels and the pointer's box."""
        if not self._view.bars:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        plot, steps = self._plot(), self._steps()
        self._paint_grid(painter, plot, steps=steps)
        for index, bar in enumerate(self._view.bars):
            self._paint_bar(painter, self._column(plot, index), bar=bar, top=steps[-1])
        self._paint_labels(painter, plot)
        if self._pointed is not None and self._pointed < len(self._view.bars):
            bar = self._view.bars[self._pointed]
            column = self._column(plot, self._pointed)
            at = QPointF(column.center().x(), plot.top())
            paint_tip(painter, self._theme, plot=plot, at=at, words=(bar.title, bar.note))

    def _steps(self) -> list[float]:
        return round_steps(max((bar.total for bar in self._view.bars), default=0) / self._view.unit)

    def _plot(self) -> QRectF:
        left = axis_width(self._steps(), QFontMetricsF(text_font(11, 500)))
        return QRectF(self.rect()).adjusted(left, TOP, -RIGHT, -BOTTOM)

    def _column(self, plot: QRectF, index: int) -> QRectF:
        width = plot.width() / len(self._view.bars)
        return QRectF(plot.left() + index * width, plot.top(), width, plot.height())

    def _paint_grid(self, painter: QPainter, plot: QRectF, *, steps: list[float]) -> None:
        painter.setFont(text_font(11, 500))
        for value in steps:
            y = round(plot.bottom() - value / steps[-1] * plot.height()) + 0.5
            painter.setPen(QPen(self._theme.color("grid"), 1))
            painter.drawLine(QPointF(plot.left(), y), QPointF(plot.right(), y))
            painter.setPen(self._theme.color("text3"))
            room = QRectF(0, y - 8, plot.left() - 8, 16)
            painter.drawText(room, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), step_text(value))

    def _paint_bar(self, painter: QPainter, column: QRectF, *, bar: Bar, top: float) -> None:
        is_pointed = self._pointed is not None and bar is self._view.bars[self._pointed]
        painter.setPen(Qt.PenStyle.NoPen)
        if is_pointed:
            painter.setBrush(self._theme.color("hover"))
            painter.drawRect(column)
        width = min(MOST_WIDTH, column.width() * FILL)
        height = bar.total / self._view.unit / top * column.height()
        whole = QRectF(column.center().x() - width / 2, column.bottom() - height, width, height)
        painter.save()
        outline = QPainterPath()
        outline.addRoundedRect(whole.adjusted(0, 0, 0, 4), 2.5, 2.5)
        painter.setClipPath(outline)
        room = QRectF(column.left(), column.top(), column.width(), column.height() + 0.5)
        painter.setClipRect(room, Qt.ClipOperation.IntersectClip)
        bottom = column.bottom()
        for index, part in enumerate(bar.parts):
            part_height = part / self._view.unit / top * column.height()
            painter.setBrush(self._theme.chart(index))
            painter.drawRect(QRectF(whole.left(), bottom - part_height, width, part_height))
            bottom -= part_height
        painter.restore()

    def _paint_labels(self, painter: QPainter, plot: QRectF) -> None:
        """As many labels as have room, counted from the newest bar back."""
        painter.setFont(text_font(11, 500))
        painter.setPen(self._theme.color("text3"))
        metrics = QFontMetricsF(painter.font())
        column = plot.width() / len(self._view.bars)
        every = max(1, int(64 / column) + 1) if column < 64 else 1
        for index in range(len(self._view.bars) - 1, -1, -every):
            text = self._view.bars[index].label
            width = metrics.horizontalAdvance(text)
            x = min(self._column(plot, index).center().x() - width / 2, plot.right() - width)
            painter.drawText(QPointF(max(x, plot.left() - 8), plot.bottom() + 18), text)
