"""The hero of the overview: the state of this computer, why, and the buttons that change it.

Sends commands as values; never carries one out.
"""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QColor, QLinearGradient, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QFrame, QHBoxLayout, QMenu, QVBoxLayout

from app.gui.button import Button
from app.gui.fonts import display_font, text_font
from app.gui.label import Label
from app.gui.ring import Ring
from app.gui.steps import Steps
from app.gui.theme import Theme
from app.gui.views import Hero, HeroAction, Tone
from core.commands import Command, JoinNetwork, LeaveNetwork, PauseWork, ResumeWork

QUARTER_S = 900.0
HOUR_S = 3_600.0
RADIUS = 12

BUTTONS = {
    HeroAction.PAUSE: ("Pause", "pause", "secondary"),
    HeroAction.RESUME: ("Resume now", "play", "primary"),
    HeroAction.LEAVE: ("Leave network", "log-out", "secondary"),
    HeroAction.CANCEL: ("Cancel", "", "secondary"),
    HeroAction.LEAVE_NOW: ("Leave now", "log-out", "secondary"),
    HeroAction.RETRY: ("Try again", "refresh-cw", "primary"),
    HeroAction.JOIN: ("Join network", "zap", "primary"),
}
COMMANDS: dict[HeroAction, Command] = {
    HeroAction.RESUME: ResumeWork(),
    HeroAction.LEAVE: LeaveNetwork(),
    HeroAction.CANCEL: LeaveNetwork(now=True),
    HeroAction.LEAVE_NOW: LeaveNetwork(now=True),
    HeroAction.JOIN: JoinNetwork(),
}
PAUSES: tuple[tuple[str, Command], ...] = (
    ("For 15 minutes", PauseWork(QUARTER_S)),
    ("For 1 hour", PauseWork(HOUR_S)),
    ("Until I resume", PauseWork()),
    ("Stop running jobs and pause", PauseWork(now=True)),
)


class HeroCard(QFrame):
    """`command_given` carries a Command; `retry_wanted` asks to start the engine again."""

    command_given = Signal(object)
    retry_wanted = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._hero = Hero("", "", Tone.NEUTRAL, "power")
        self._ring = Ring(theme)
        self._title = Label(font=display_font(24))
        self._title.setObjectName("hero_title")
        self._sentence = Label(font=text_font(13), tone="text2")
        self._sentence.setObjectName("hero_sentence")
        self._sentence.setWordWrap(True)
        self._checks = Steps(theme, across=True)
        self._buttons = {action: self._button(action) for action in BUTTONS}
        self.setMinimumHeight(116)
        self._lay_out()
        theme.changed.connect(self.update)

    def show_hero(self, hero: Hero) -> None:
        """Another state."""
        if hero == self._hero:
            return
        self._hero = hero
        self._ring.show_hero(hero)
        self._title.show_text(hero.title)
        self._sentence.show_text(hero.sentence)
        self._checks.show_steps(hero.checks)
        self._checks.setVisible(bool(hero.checks))
        for action, button in self._buttons.items():
            if action not in hero.actions:
                button.clearFocus()
            button.setVisible(action in hero.actions)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """A card whose left end is tinted by the state."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        box = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        outline = QPainterPath()
        outline.addRoundedRect(box, RADIUS, RADIUS)
        painter.fillPath(outline, self._theme.color("surface"))
        if self._hero.tone is not Tone.NEUTRAL:
            painter.fillPath(outline, self._tint(box))
        painter.setPen(QPen(self._theme.color("border"), 1))
        painter.drawPath(outline)

    def _tint(self, box: QRectF) -> QLinearGradient:
        tint, clear = self._theme.soft(self._hero.tone), QColor(self._theme.soft(self._hero.tone))
        clear.setAlphaF(0.0)
        gradient = QLinearGradient(box.left(), 0, box.left() + box.width() * 0.4, 0)
        gradient.setColorAt(0, tint)
        gradient.setColorAt(0.25, tint)
        gradient.setColorAt(1, clear)
        return gradient

    def _lay_out(self) -> None:
        words = QVBoxLayout()
        words.setSpacing(3)
        words.addStretch(1)
        words.addWidget(self._title)
        words.addWidget(self._sentence)
        words.addSpacing(3)
        words.addWidget(self._checks)
        words.addStretch(1)
        row = QHBoxLayout(self)
        row.setContentsMargins(18, 12, 20, 12)
        row.setSpacing(12)
        row.addWidget(self._ring)
        row.addSpacing(4)
        row.addLayout(words, 1)
        for button in self._buttons.values():
            row.addWidget(button, 0, Qt.AlignmentFlag.AlignVCenter)

    def _button(self, action: HeroAction) -> Button:
        text, icon, kind = BUTTONS[action]
        button = Button(self._theme, text, icon=icon, kind=kind).make_large().named(action.value)
        button.hide()
        if action is HeroAction.PAUSE:
            button.setMenu(self._pause_menu(button))
        elif action is HeroAction.RETRY:
            button.clicked.connect(self.retry_wanted)
        else:
            button.clicked.connect(partial(self._give, COMMANDS[action]))
        return button

    def _pause_menu(self, button: Button) -> QMenu:
        menu = QMenu(button)
        menu.setObjectName("pause_menu")
        menu.setFont(text_font(13))
        for text, command in PAUSES:
            if command == PauseWork(now=True):
                menu.addSeparator()
            menu.addAction(text).triggered.connect(partial(self._give, command))
        return menu

    def _give(self, command: Command, _checked: bool = False) -> None:
        self.command_given.emit(command)
