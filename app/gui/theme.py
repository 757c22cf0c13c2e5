"""The look that is on: colours, palette, style sheet, whether things may move, and the icons in those colours.

One Theme is made by the window's composition and handed to every widget. Never read colours from anywhere else.
"""

from __future__ import annotations

from PySide6.QtCore import QByteArray, QObject, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QGuiApplication, QIcon, QPainter, QPalette, QPixmap
from PySide6.QtSvg import QSvgRenderer

from app.gui.colors import DARK, LIGHT, Colors
from app.gui.stylesheet import stylesheet
from app.gui.views import Tone
from assets import asset_path

TONE_TEXT = {
    Tone.NEUTRAL: "text2",
    Tone.ACCENT: "accent_text",
    Tone.INFO: "info",
    Tone.WARN: "warn",
    Tone.DANGER: "danger",
}
TONE_SOFT = {
    Tone.NEUTRAL: "neutral_soft",
    Tone.ACCENT: "accent_soft",
    Tone.INFO: "info_soft",
    Tone.WARN: "warn_soft",
    Tone.DANGER: "danger_soft",
}


class Theme(QObject):
    """Light or dark, and whether things move. `changed` is emitted after either changed."""

    changed = Signal()

    def __init__(self, *, is_dark: bool, reduce_motion: bool = False) -> None:
        super().__init__()
        self._colors = DARK if is_dark else LIGHT
        self._reduce_motion = reduce_motion
        self._drawings: dict[str, bytes] = {}

    @property
    def colors(self) -> Colors:
        """The tokens of the look that is on."""
        return self._colors

    @property
    def reduce_motion(self) -> bool:
        """True when nothing may move by itself."""
        return self._reduce_motion

    def set_dark(self, is_dark: bool) -> None:
        """Change the look."""
        self._colors = DARK if is_dark else LIGHT
        self.changed.emit()

    def set_reduce_motion(self, reduce_motion: bool) -> None:
        """Stop or allow motion."""
        self._reduce_motion = reduce_motion
        self.changed.emit()

    def color(self, role: str) -> QColor:
        """A token by its name in Colors."""
        return QColor(getattr(self._colors, role))

    def chart(self, index: int) -> QColor:
        """The index-th chart colour; the last one is for all that come after."""
        return QColor(self._colors.charts[min(index, len(self._colors.charts) - 1)])

    def tone(self, tone: Tone) -> QColor:
        """The text colour of a tone."""
        return self.color(TONE_TEXT[tone])

    def soft(self, tone: Tone) -> QColor:
        """The ground that goes with a tone's text."""
        return self.color(TONE_SOFT[tone])

    def palette(self) -> QPalette:
        """For what Qt draws itself: text fields, menus, dialogs, selections."""
        shades = {
            QPalette.ColorRole.Window: "app",
            QPalette.ColorRole.WindowText: "text",
            QPalette.ColorRole.Base: "surface",
            QPalette.ColorRole.AlternateBase: "inset",
            QPalette.ColorRole.Text: "text",
            QPalette.ColorRole.Button: "surface",
            QPalette.ColorRole.ButtonText: "text",
            QPalette.ColorRole.ToolTipBase: "raised",
            QPalette.ColorRole.ToolTipText: "text",
            QPalette.ColorRole.PlaceholderText: "text3",
            QPalette.ColorRole.Highlight: "accent",
            QPalette.ColorRole.HighlightedText: "on_accent",
            QPalette.ColorRole.Link: "accent_text",
        }
        palette = QPalette()
        for role, name in shades.items():
            palette.setColor(role, self.color(name))
        return palette

    def stylesheet(self) -> str:
        """The style sheet of the window."""
        return stylesheet(self._colors)

    def paint_icon(self, painter: QPainter, name: str, *, rect: QRectF, color: QColor) -> None:
        """Draw a shipped icon into rect."""
        drawing = self._drawing(name).replace(b"currentColor", color.name().encode())
        QSvgRenderer(QByteArray(drawing)).render(painter, rect)

    def icon(self, name: str, color: QColor, *, size: int = 18, gap: int = 0) -> QIcon:
        """A shipped icon for a button, sharp on every screen; gap is clear room at its right, in pixels."""
        icon = QIcon(self._pixmap(name, color, size=size, gap=gap))
        icon.addPixmap(self._pixmap(name, self.color("text3"), size=size, gap=gap), QIcon.Mode.Disabled)
        return icon

    def _pixmap(self, name: str, color: QColor, *, size: int, gap: int) -> QPixmap:
        ratio = QGuiApplication.primaryScreen().devicePixelRatio() if QGuiApplication.primaryScreen() else 1.0
        pixmap = QPixmap(int((size + gap) * ratio), int(size * ratio))
        pixmap.setDevicePixelRatio(ratio)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        self.paint_icon(painter, name, rect=QRectF(0, 0, size, size), color=color)
        painter.end()
        return pixmap

    def _drawing(self, name: str) -> bytes:
        """Lucide draws with 2 px lines on a 24 px grid; at our sizes 1.75 looks right beside Inter."""
        if name not in self._drawings:
            drawing = asset_path(f"icons/{name}.svg").read_bytes()
            self._drawings[name] = drawing.replace(b'stroke-width="2"', b'stroke-width="1.75"')
        return self._drawings[name]
