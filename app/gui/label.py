"""Labels and icons in the tones of the theme.

Never sets a colour itself: a label names its tone, the style sheet knows the colour.
"""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QFont, QFontMetrics, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QLabel, QSizePolicy, QWidget

from app.gui.fonts import text_font
from app.gui.theme import Theme


class Label(QLabel):
    """One line of text; with is_elided it gives way and shows an ellipsis and a tool tip."""

    def __init__(
        self, text: str = "", *, font: QFont | None = None, tone: str = "text", is_elided: bool = False
    ) -> None:
        super().__init__(text)
        self.setFont(font if font is not None else text_font())
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("tone", tone)
        self._is_elided = is_elided
        self._whole = text
        if is_elided:
            self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    @property
    def whole(self) -> str:
        """The text before it was cut."""
        return self._whole

    def show_text(self, text: str, tone: str | None = None) -> None:
        """Change the text and, if given, the tone; costs nothing when nothing changes."""
        if tone is not None and tone != self.property("tone"):
            self.setProperty("tone", tone)
            self.style().unpolish(self)
            self.style().polish(self)
        if text != self._whole:
            self._whole = text
            self._show()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Cut the text to the new width."""
        super().resizeEvent(event)
        if self._is_elided:
            self._show()

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """An elided label may become as narrow as a few letters."""
        hint = super().minimumSizeHint()
        return QSize(24, hint.height()) if self._is_elided else hint

    def _show(self) -> None:
        if not self._is_elided or self.wordWrap():
            self.setText(self._whole)
            return
        shown = QFontMetrics(self.font()).elidedText(self._whole, Qt.TextElideMode.ElideRight, self.width())
        self.setText(shown)
        self.setToolTip(self._whole if shown != self._whole else "")


class IconView(QWidget):
    """One icon in one colour role."""

    def __init__(self, theme: Theme, name: str, *, size: int = 16, role: str = "text3") -> None:
        super().__init__()
        self._theme = theme
        self._name = name
        self._role = role
        self.setFixedSize(size, size)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        theme.changed.connect(self.update)

    def show_icon(self, name: str, role: str) -> None:
        """Another icon or colour."""
        if (name, role) != (self._name, self._role):
            self._name, self._role = name, role
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw the icon."""
        painter = QPainter(self)
        self._theme.paint_icon(painter, self._name, rect=QRectF(self.rect()), color=self._theme.color(self._role))
