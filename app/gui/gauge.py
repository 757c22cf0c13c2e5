"""The device's load as three quarters of a ring, with the figure in its middle.

Eases to a new value in 160 ms unless motion is reduced.
"""

from __future__ import annotations

from PySide6.QtCore import QEasingCurve, QRectF, Qt, QVariantAnimation
from PySide6.QtGui import QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.gui.fonts import display_font, text_font
from app.gui.theme import Theme

START, SPAN = 225, 270
EASE_MS = 160
WIDTH = 9


class Gauge(QWidget):
    """fraction None: the device does not say, and only the ground is drawn."""

    def __init__(self, theme: Theme, caption: str) -> None:
        super().__init__()
        self._theme = theme
        self._caption = caption
        self._text = ""
        self._fraction: float | None = None
        self._drawn = 0.0
        self._motion = QVariantAnimation(self)
        self._motion.setDuration(EASE_MS)
        self._motion.setEasingCurve(QEasingCurve.Type.OutCubic)
        self._motion.valueChanged.connect(self._move)
        self.setFixedSize(116, 116)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_load(self, fraction: float | None, text: str) -> None:
        """0 to 1 and how it is written."""
        if (fraction, text) == (self._fraction, self._text):
            return
        self._fraction, self._text = fraction, text
        target = min(1.0, fraction or 0.0)
        if self._theme.reduce_motion or not self.isVisible():
            self._motion.stop()
            self._move(target)
            return
        self._motion.stop()
        self._motion.setStartValue(self._drawn)
        self._motion.setEndValue(target)
        self._motion.start()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw the ring and the words."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ring = QRectF(self.rect()).adjusted(WIDTH / 2 + 1, WIDTH / 2 + 1, -WIDTH / 2 - 1, -WIDTH / 2 - 1)
        pen = QPen(self._theme.color("inset"), WIDTH)
        pen.setCapStyle(Qt.PenCapStyle.RoundCap)
        if not self._theme.colors.is_dark:
            pen.setColor(self._theme.color("neutral_soft"))
        painter.setPen(pen)
        painter.drawArc(ring, START * 16, -SPAN * 16)
        if self._drawn > 0:
            pen.setColor(self._theme.chart(0))
            painter.setPen(pen)
            painter.drawArc(ring, START * 16, -int(max(0.01, self._drawn) * SPAN * 16))
        painter.setPen(self._theme.color("text"))
        painter.setFont(display_font(26))
        painter.drawText(QRectF(0, 32, self.width(), 34), int(Qt.AlignmentFlag.AlignCenter), self._text)
        painter.setPen(self._theme.color("text2"))
        painter.setFont(text_font(12))
        painter.drawText(QRectF(0, 83, self.width(), 18), int(Qt.AlignmentFlag.AlignCenter), self._caption)

    def _move(self, value: object) -> None:
        if isinstance(value, float):
            self._drawn = value
            self.update()
