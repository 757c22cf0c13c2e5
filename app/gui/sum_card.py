"""One sum of money on top of the earnings page, with a button where something can be done with it.

Only shows.
"""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QFontMetrics, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout

from app.gui.button import Button
from app.gui.card import Card
from app.gui.fonts import display_font, text_font
from app.gui.label import IconView, Label
from app.gui.theme import Theme
from app.gui.views import Sum

HEIGHT = 112
SIDE = 18
GAP = 12


class SumCard(Card):
    """figure is the height of the number in pixels."""

    def __init__(self, theme: Theme, *, figure: int, action: Button | None = None) -> None:
        super().__init__(margins=(SIDE, 12, SIDE, 12), spacing=0)
        self._icon = IconView(theme, "circle", size=15)
        self._label = Label(font=text_font(12, 500), tone="text2", is_elided=True)
        self._value = Label(font=display_font(figure))
        self._unit = Label(font=text_font(12, 500), tone="text3")
        self._note = Label(font=text_font(12), tone="text2", is_elided=True)
        self._figure = figure
        self._action = action
        self.setFixedHeight(HEIGHT)
        self._lay_out()

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
        self._fit()
        self.setAccessibleName(f"{view.label}: {view.value} {view.unit}")

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """The figure always has room: its unit goes first, then it is written smaller."""
        super().resizeEvent(event)
        self._fit()

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Narrow enough for the smallest window."""
        return QSize(292 if self._action is not None else 140, HEIGHT)

    def sizeHint(self) -> QSize:  # noqa: N802
        """As minimumSizeHint; the layout's shares do the rest."""
        return self.minimumSizeHint()

    def _fit(self) -> None:
        room = self.width() - 2 * SIDE - (self._action.sizeHint().width() + GAP if self._action is not None else 0)
        unit = self._unit.fontMetrics().horizontalAdvance(self._unit.whole) + 8
        for size, has_unit in ((self._figure, True), (self._figure, False), (22, False), (18, False), (15, False)):
            font = display_font(size)
            if QFontMetrics(font).horizontalAdvance(self._value.whole) + (unit if has_unit else 0) <= room:
                break
        self._value.setFont(font)
        self._unit.setVisible(has_unit)
        self._unit.setContentsMargins(0, 0, 0, 5 if size > 30 else 3)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(5)
        head.addWidget(self._icon)
        head.addWidget(self._label, 1)
        figure = QHBoxLayout()
        figure.setSpacing(6)
        figure.addWidget(self._value)
        figure.addWidget(self._unit, 0, Qt.AlignmentFlag.AlignBottom)
        figure.addStretch(1)
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addStretch(1)
        words.addLayout(head)
        words.addLayout(figure)
        words.addWidget(self._note)
        words.addStretch(1)
        line = QHBoxLayout()
        line.setSpacing(GAP)
        line.addLayout(words, 1)
        if self._action is not None:
            line.addWidget(self._action, 0, Qt.AlignmentFlag.AlignVCenter)
        self.column.addLayout(line)
