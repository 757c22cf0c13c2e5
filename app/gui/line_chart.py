"""The throughput chart: a line over an area, the benchmark dashed, and what the pointer is on.

A benchmark far above everything measured is left to the legend, so that it does not flatten the line.
Never thins its points out: whoever hands them over has done that.
"""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QFontMetricsF, QLinearGradient, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.gui.chart_axis import axis_width, round_steps, smooth_path, step_text
from app.gui.chart_tip import paint_tip
from app.gui.fonts import text_font
from app.gui.theme import Theme
from app.gui.views import Point, Throughput

TOP, RIGHT, BOTTOM = 10, 4, 24
HEADROOM = 1.05
GAP_S = 30.0
FAR_ABOVE = 3.0


class LineChart(QWidget):
    """Throughput of the last window_s seconds."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._view = Throughput((), 0.0)
        self._window_s = 600.0
        self._pointer: float | None = None
        self.setMouseTracking(True)
        self.setMinimumHeight(120)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        theme.changed.connect(self.update)

    def show_throughput(self, view: Throughput) -> None:
        """Other points, or a later now."""
        self._view = view
        self.update()

    def show_window(self, window_s: float) -> None:
        """How many seconds to show."""
        self._window_s = window_s
        self.update()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Show what is under the pointer."""
        self._pointer = event.position().x()
        self.update()

    def leaveEvent(self, event: object) -> None:  # noqa: N802
        """Hide it again."""
        self._pointer = None
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw grid, area, line, benchmark and pointer."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        points = self._shown()
        highest = max([point.value for point in points], default=0.0)
        benchmark = self._view.benchmark or 0.0
        has_benchmark = 0 < benchmark <= FAR_ABOVE * highest
        steps = round_steps(max(highest, benchmark if has_benchmark else 0.0) * HEADROOM)
        left = axis_width(steps, QFontMetricsF(text_font(11, 500)))
        plot = QRectF(self.rect()).adjusted(left, TOP, -RIGHT, -BOTTOM)
        self._paint_grid(painter, plot, steps=steps)
        self._paint_times(painter, plot)
        for run in _runs(points):
            self._paint_run(painter, plot, places=[self._place(point, plot, top=steps[-1]) for point in run])
        if has_benchmark:
            self._paint_benchmark(painter, plot, top=steps[-1])
        if self._pointer is not None and points:
            self._paint_pointer(painter, plot, points=points, top=steps[-1])

    def _shown(self) -> list[Point]:
        start = self._view.now - self._window_s
        return [point for point in self._view.points if start <= point.at <= self._view.now]

    def _place(self, point: Point, plot: QRectF, *, top: float) -> QPointF:
        share = 1 - (self._view.now - point.at) / self._window_s
        return QPointF(plot.left() + share * plot.width(), plot.bottom() - point.value / top * plot.height())

    def _paint_grid(self, painter: QPainter, plot: QRectF, *, steps: list[float]) -> None:
        painter.setFont(text_font(11, 500))
        for value in steps:
            y = round(plot.bottom() - value / steps[-1] * plot.height()) + 0.5
            painter.setPen(QPen(self._theme.color("grid"), 1))
            painter.drawLine(QPointF(plot.left(), y), QPointF(plot.right(), y))
            painter.setPen(self._theme.color("text3"))
            room = QRectF(0, y - 8, plot.left() - 8, 16)
            painter.drawText(room, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), step_text(value))

    def _paint_times(self, painter: QPainter, plot: QRectF) -> None:
        painter.setFont(text_font(11, 500))
        painter.setPen(self._theme.color("text3"))
        metrics = QFontMetricsF(painter.font())
        minutes, in_seconds = self._window_s / 60, self._window_s <= 60
        for number in range(6):
            share = number / 5
            left = (self._window_s if in_seconds else minutes) * (1 - share)
            unit = "s" if in_seconds else "min"
            text = "now" if number == 5 else f"{left:g} {unit} ago" if number == 0 else f"{left:g}"
            width = metrics.horizontalAdvance(text)
            x = plot.left() + share * plot.width() - width / 2
            x = min(max(x, plot.left()), plot.right() - width)
            painter.drawText(QPointF(x, plot.bottom() + 18), text)

    def _paint_run(self, painter: QPainter, plot: QRectF, *, places: list[QPointF]) -> None:
        curve = smooth_path(places)
        area = smooth_path(places)
        area.lineTo(places[-1].x(), plot.bottom())
        area.lineTo(places[0].x(), plot.bottom())
        shade = QLinearGradient(0, plot.top(), 0, plot.bottom())
        strong, clear = QColor(self._theme.chart(0)), QColor(self._theme.chart(0))
        strong.setAlphaF(0.30 if self._theme.colors.is_dark else 0.26)
        clear.setAlphaF(0.02)
        shade.setColorAt(0, strong)
        shade.setColorAt(1, clear)
        painter.fillPath(area, QBrush(shade))
        pen = QPen(self._theme.chart(0), 2)
        pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
        pen.setCapStyle(Qt.PenCapStyle.RoundCap)
        painter.strokePath(curve, pen)

    def _paint_benchmark(self, painter: QPainter, plot: QRectF, *, top: float) -> None:
        y = round(plot.bottom() - (self._view.benchmark or 0.0) / top * plot.height()) + 0.5
        pen = QPen(self._theme.color("text3"), 1.2)
        pen.setDashPattern([3, 2.5])
        painter.setPen(pen)
        painter.drawLine(QPointF(plot.left(), y), QPointF(plot.right(), y))

    def _paint_pointer(self, painter: QPainter, plot: QRectF, *, points: list[Point], top: float) -> None:
        pointer = self._pointer if self._pointer is not None else plot.left()
        nearest = min(points, key=lambda point: abs(self._place(point, plot, top=top).x() - pointer))
        place = self._place(nearest, plot, top=top)
        painter.setPen(QPen(self._theme.color("strong"), 1))
        painter.drawLine(QPointF(place.x(), plot.top()), QPointF(place.x(), plot.bottom()))
        painter.setPen(QPen(self._theme.color("surface"), 2))
        painter.setBrush(self._theme.chart(0))
        painter.drawEllipse(place, 5, 5)
        paint_tip(painter, self._theme, plot=plot, at=place, words=(nearest.title, nearest.note))


def _runs(points: list[Point]) -> list[list[Point]]:
    """Points without a hole between them: a stopped engine measures nothing, and nothing is drawn for it."""
    runs: list[list[Point]] = []
    for point in points:
        if runs and point.at - runs[-1][-1].at <= GAP_S:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs
