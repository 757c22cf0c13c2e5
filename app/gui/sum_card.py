"""One sum of money on top of the earnings page, with a button where something can be done with it.

Only shows.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout

from app.gui.button import Button
from app.gui.card import Card
from app.gui.fonts import display_font, text_font
from app.gui.label import IconView, Label
from app.gui.theme import Theme
from app.gui.views import Sum

HEIGHT = 112


class SumCard(Card):
    """figure is the height of the number in pixels."""

    def __init__(self, theme: Theme, *, figure: int, action: Button | None = None) -> None:
        super().__init__(margins=(18, 12, 18, 12), spacing=0)
        self._icon = IconView(theme, "circle", size=15)
        self._label = Label(font=text_font(12, 500), tone="text2", is_elided=True)
        self._value = Label(font=display_font(figure))
        self._unit = Label(font=text_font(12, 500), tone="text3")
        self._note = Label(font=text_font(12), tone="text2", is_elided=True)
        self._lift = 5 if figure > 30 else 3
        self.setFixedHeight(HEIGHT)
        self._lay_out(action)

    @property
    def value(self) -> str:
        """The sum as it is written."""
        return self._value.whole

    def show_sum(self, view: Sum) -> None:
        """Another sum."""
        self._icon.show_icon(view.icon, "text3")
        self._label.show_text(view.label)
        self._value.show_text(view.value)
        self._unit.show_text(view.unit)
        self._note.show_text(view.note)
        self.setAccessibleName(f"{view.label}: {view.value} {view.unit}")

    def _lay_out(self, action: Button | None) -> None:
        head = QHBoxLayout()
        head.setSpacing(5)
        head.addWidget(self._icon)
        head.addWidget(self._label, 1)
        figure = QHBoxLayout()
        figure.setSpacing(6)
        figure.addWidget(self._value)
        figure.addWidget(self._unit, 0, Qt.AlignmentFlag.AlignBottom)
        figure.addStretch(1)
        self._unit.setContentsMargins(0, 0, 0, self._lift)
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addStretch(1)
        words.addLayout(head)
        words.addLayout(figure)
        words.addWidget(self._note)
        words.addStretch(1)
        line = QHBoxLayout()
        line.setSpacing(12)
        line.addLayout(words, 1)
        if action is not None:
            line.addWidget(action, 0, Qt.AlignmentFlag.AlignVCenter)
        self.column.addLayout(line)
