"""One sentence at the foot of the window: what a command led to. It goes by itself, or when it is clicked.

A refusal stays longer than a confirmation. Never asks anything.
"""

from __future__ import annotations

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QWidget

from app.gui.fonts import text_font
from app.gui.label import IconView, Label
from app.gui.theme import Theme

DONE_MS = 4_000
REFUSED_MS = 10_000
MOST_WIDTH = 560
ABOVE_FOOT = 24


class Toast(QFrame):
    """Lies over its parent, bottom middle."""

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._ground = parent
        self.setProperty("toast", "true")
        self.setObjectName("toast")
        self._icon = IconView(theme, "circle-check", size=16, role="app")
        self._text = Label(font=text_font(13, 500), tone="inverse")
        self._text.setWordWrap(True)
        line = QHBoxLayout(self)
        self._line = line
        line.setContentsMargins(14, 10, 16, 10)
        line.setSpacing(10)
        line.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignTop)
        line.addWidget(self._text, 1)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.hide)
        self.hide()

    @property
    def text(self) -> str:
        """The sentence that is shown, or was last."""
        return self._text.whole

    def tell(self, sentence: str, *, is_refusal: bool = False) -> None:
        """Show a sentence."""
        self._icon.show_icon("triangle-alert" if is_refusal else "circle-check", "app")
        self._text.show_text(sentence)
        self.place()
        self.show()
        self.raise_()
        self._timer.start(REFUSED_MS if is_refusal else DONE_MS)

    def place(self) -> None:
        """Bottom middle of the parent."""
        words = self._text.fontMetrics().horizontalAdvance(self._text.whole)
        width = min(MOST_WIDTH, self._ground.width() - 48, words + 62)
        height = max(38, self._line.heightForWidth(width))
        left, top = (self._ground.width() - width) // 2, self._ground.height() - height - ABOVE_FOOT
        self.setGeometry(left, top, width, height)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Gone."""
        self.hide()
