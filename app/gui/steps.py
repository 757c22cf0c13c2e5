"""Steps or checks with their marks: in one line under the hero, and one below the other in a job's timeline.

Only shows; the marks come with the values.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from app.gui.fonts import text_font
from app.gui.label import IconView, Label
from app.gui.theme import Theme
from app.gui.views import Mark, Step

ICONS = {
    Mark.DONE: ("circle-check", "accent_text"),
    Mark.NOW: ("loader", "accent_text"),
    Mark.LATER: ("circle", "text3"),
    Mark.WRONG: ("triangle-alert", "warn"),
}


class StepLine(QWidget):
    """A mark, its words, and a value at the right end where there is one."""

    def __init__(self, theme: Theme, *, has_value: bool) -> None:
        super().__init__()
        self._icon = IconView(theme, "circle", size=16)
        self._text = Label(font=text_font(13 if has_value else 12, 500 if has_value else 400), tone="text2")
        self._value = Label(font=text_font(12), tone="text3")
        self._has_value = has_value
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(10 if has_value else 5)
        layout.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignVCenter)
        layout.addWidget(self._text)
        if has_value:
            layout.addStretch(1)
            layout.addWidget(self._value)
        else:
            self._icon.setFixedSize(14, 14)
            self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def show_step(self, step: Step) -> None:
        """Another step."""
        icon, role = ICONS[step.mark]
        self._icon.show_icon(icon, role)
        tone = "text2"
        if self._has_value:
            tone = "text3" if step.mark is Mark.LATER else "text"
        self._text.show_text(step.text, tone)
        self._value.show_text(step.value)


class Steps(QWidget):
    """Any number of steps. across puts them side by side; those without room are not shown, nearest the end first."""

    def __init__(self, theme: Theme, *, across: bool) -> None:
        super().__init__()
        self._theme = theme
        self._across = across
        self._lines: list[StepLine] = []
        self._count = 0
        self._layout: QHBoxLayout | QVBoxLayout = QHBoxLayout(self) if across else QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(16 if across else 8)
        if across:
            self._layout.addStretch(1)
            self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def show_steps(self, steps: tuple[Step, ...]) -> None:
        """Other steps; lines are kept and reused."""
        while len(self._lines) < len(steps):
            made = StepLine(self._theme, has_value=not self._across)
            self._layout.insertWidget(len(self._lines), made)
            self._lines.append(made)
        for line, step in zip(self._lines, steps, strict=False):
            line.show_step(step)
        self._count = len(steps)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """More room may show more steps."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        used = 0
        for index, line in enumerate(self._lines):
            used += line.sizeHint().width() + (self._layout.spacing() if index else 0)
            has_room = not self._across or used <= self.width()
            line.setVisible(index < self._count and has_room)
