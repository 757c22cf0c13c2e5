"""The ring of the hero with the icon of the state in it: full, part of the way, or turning.

Turns only while it is seen, something is under way, and motion is allowed.
"""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt, QTimer
from PySide6.QtGui import QColor, QHideEvent, QPainter, QPaintEvent, QPen, QShowEvent
from PySide6.QtWidgets import QWidget

from app.gui.theme import Theme
from app.gui.views import Hero, Tone

TURN_MS = 40
TURN_DEGREES = 8
SIZE = 76
UNKNOWN_PART = 0.25
WIDTH = 5


class Ring(QWidget):
    """Shows a Hero's tone, icon and ring."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._hero = Hero("", "", Tone.NEUTRAL, "power")
        self._angle = 90
        self._timer = QTimer(self)
        self._timer.setInterval(TURN_MS)
        self._timer.timeout.connect(self._turn)
        self.setFixedSize(SIZE, SIZE)
        theme.changed.connect(self._changed)

    def show_hero(self, hero: Hero) -> None:
        """Another state."""
        self._hero = hero
        self._changed()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Begin to turn."""
        self._changed()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802
        """Nothing turns unseen."""
        self._timer.stop()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw ring and icon."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        is_neutral = self._hero.tone is Tone.NEUTRAL
        color = self._theme.color("text3") if is_neutral else self._ring_color()
        ring = QRectF(self.rect()).adjusted(7, 7, -7, -7)
        is_part = self._hero.ring is not None or self._hero.is_busy
        if not is_part and not is_neutral:
            halo = QColor(color)
            halo.setAlphaF(0.16)
            painter.setPen(QPen(halo, WIDTH + 4))
            painter.drawEllipse(ring)
        ground = self._theme.color("border" if is_part or is_neutral else "surface")
        painter.setPen(QPen(ground, WIDTH))
        painter.drawEllipse(ring)
        self._paint_part(painter, ring, color=color, is_neutral=is_neutral)
        icon_color = self._theme.color("text2") if is_neutral else self._theme.tone(self._hero.tone)
        middle = ring.center()
        place = QRectF(middle.x() - 13, middle.y() - 13, 26, 26)
        self._theme.paint_icon(painter, self._hero.icon, rect=place, color=icon_color)

    def _paint_part(self, painter: QPainter, ring: QRectF, *, color: QColor, is_neutral: bool) -> None:
        part = UNKNOWN_PART if self._hero.is_busy else self._hero.ring
        if is_neutral and part is None:
            return
        pen = QPen(color, WIDTH)
        pen.setCapStyle(Qt.PenCapStyle.RoundCap)
        painter.setPen(pen)
        if part is None:
            painter.drawEllipse(ring)
            return
        painter.drawArc(ring, self._angle * 16, -int(max(0.02, part) * 360 * 16))

    def _ring_color(self) -> QColor:
        return self._theme.chart(0) if self._hero.tone is Tone.ACCENT else self._theme.tone(self._hero.tone)

    def _turn(self) -> None:
        self._angle = (self._angle - TURN_DEGREES) % 360
        self.update()

    def _changed(self) -> None:
        """A known fraction stands still and fills up; an unknown one turns."""
        if self._hero.is_busy and self.isVisible() and not self._theme.reduce_motion:
            self._timer.start()
        else:
            self._timer.stop()
            self._angle = 90
        self.update()
