"""The tokens per second card of the overview.

Only shows; how far back it looks is the owner's choice.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QHBoxLayout, QStackedLayout, QWidget

from app.gui.card import Card, Empty, heading
from app.gui.fonts import text_font
from app.gui.label import Label
from app.gui.line_chart import LineChart
from app.gui.segmented import Segmented
from app.gui.theme import Theme
from app.gui.views import Throughput

WINDOWS = (("1 min", 60.0), ("5 min", 300.0), ("10 min", 600.0))


class Dash(QWidget):
    """The legend's piece of dashed line."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.setFixedSize(20, 10)
        theme.changed.connect(self.update)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw it."""
        painter = QPainter(self)
        pen = QPen(self._theme.color("text3"), 1.2)
        pen.setDashPattern([3, 2.5])
        painter.setPen(pen)
        painter.drawLine(0, 5, 20, 5)


class ThroughputCard(Card):
    """Chart, legend and the choice of window."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(margins=(18, 12, 14, 8), spacing=6)
        self._dash = Dash(theme)
        self._legend = Label(font=text_font(12), tone="text2", is_elided=True)
        self._windows = Segmented(theme, [name for name, _ in WINDOWS], index=len(WINDOWS) - 1)
        self._windows.chosen.connect(self._look_back)
        self._is_chosen = False
        self._chart = LineChart(theme)
        self._empty = Empty(theme, "activity")
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(heading("Tokens per second"))
        head.addSpacing(8)
        head.addWidget(self._dash)
        head.addWidget(self._legend, 1)
        head.addWidget(self._windows, 0, Qt.AlignmentFlag.AlignRight)
        self.column.addLayout(head)
        self._stack = QStackedLayout()
        self._stack.addWidget(self._empty)
        self._stack.addWidget(self._chart)
        self.column.addLayout(self._stack, 1)
        self.setMinimumHeight(200)

    def show_throughput(self, view: Throughput) -> None:
        """Other points."""
        has_points = any(point.value > 0 for point in view.points)
        self._stack.setCurrentWidget(self._chart if has_points else self._empty)
        self._dash.setVisible(has_points and view.benchmark is not None)
        self._legend.show_text(view.benchmark_text if has_points else "")
        if not self._is_chosen:
            self._follow(view)
        self._empty.show_words(view.empty_title, view.empty_text, icon="activity")
        self._chart.show_throughput(view)

    def _follow(self, view: Throughput) -> None:
        """Until the owner chooses, the shortest window that holds all there is."""
        span = view.now - view.points[0].at if view.points else 0.0
        index = next((i for i, (_, window_s) in enumerate(WINDOWS) if span <= window_s), len(WINDOWS) - 1)
        self._windows.blockSignals(True)
        self._windows.choose(index)
        self._windows.blockSignals(False)
        self._chart.show_window(WINDOWS[index][1])

    def _look_back(self, index: int) -> None:
        self._is_chosen = True
        self._chart.show_window(WINDOWS[index][1])
