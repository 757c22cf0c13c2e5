"""The white rounded ground that everything on a page lies on, its heading line, and the empty state inside it.

Never knows what it holds.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from app.gui.fonts import text_font
from app.gui.label import IconView, Label
from app.gui.theme import Theme


class Card(QFrame):
    """A card with a vertical layout in `column`."""

    def __init__(self, *, margins: tuple[int, int, int, int] = (18, 14, 18, 14), spacing: int = 8) -> None:
        super().__init__()
        self.setProperty("card", "true")
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(*margins)
        self.column.setSpacing(spacing)


class Empty(QWidget):
    """What stands in a card while there is nothing to show: an icon, a title and a helpful sentence."""

    def __init__(self, theme: Theme, icon: str) -> None:
        super().__init__()
        self._icon = IconView(theme, icon, size=28, role="text3")
        self._title = Label(font=text_font(13, 600))
        self._text = Label(font=text_font(12), tone="text3")
        self._text.setWordWrap(True)
        self._text.setAlignment(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop)
        self._text.setMaximumWidth(400)
        self._text.setMinimumWidth(220)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addStretch(1)
        column.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addSpacing(4)
        column.addWidget(self._title, 0, Qt.AlignmentFlag.AlignHCenter)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self._text, 8)
        row.addStretch(1)
        column.addLayout(row)
        column.addStretch(1)

    def show_words(self, title: str, text: str, *, icon: str) -> None:
        """Say what is missing and what happens next."""
        self._title.show_text(title)
        self._text.show_text(text)
        self._icon.show_icon(icon, "text3")


def heading(text: str) -> Label:
    """The title of a card."""
    return Label(text, font=text_font(13, 600))


def line() -> QFrame:
    """A hairline."""
    frame = QFrame()
    frame.setProperty("line", "true")
    frame.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return frame


def row(*widgets: QWidget, spacing: int = 8) -> QHBoxLayout:
    """Widgets side by side."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(spacing)
    for widget in widgets:
        layout.addWidget(widget)
    return layout
