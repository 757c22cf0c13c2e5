"""The line above every page: its title, the payout address, light or dark, and More.

Only asks; the window does it.
"""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QMenu, QWidget

from app.gui.button import Button
from app.gui.fonts import display_font
from app.gui.label import Label
from app.gui.pill import Pill
from app.gui.theme import Theme
from app.gui.views import PillView, Tone


class TopBar(QWidget):
    """62 high."""

    theme_toggled = Signal()

    def __init__(self, theme: Theme, more: QMenu) -> None:
        super().__init__()
        self._theme = theme
        self.setFixedHeight(62)
        self._title = Label(font=display_font(20))
        self._title.setObjectName("page_title")
        self._payout = Pill(theme)
        self._toggle = Button(theme, icon="moon", kind="icon").named("toggle_theme", "Light or dark")
        self._toggle.clicked.connect(self.theme_toggled)
        self._more = Button(theme, icon="ellipsis", kind="icon").named("more", "More")
        self._more.setMenu(more)
        line = QHBoxLayout(self)
        line.setContentsMargins(24, 0, 24, 0)
        line.setSpacing(8)
        line.addWidget(self._title)
        line.addStretch(1)
        line.addWidget(self._payout)
        line.addWidget(self._toggle)
        line.addWidget(self._more)
        theme.changed.connect(self._show_toggle)
        self._show_toggle()

    def show_title(self, title: str, payout: str = "") -> None:
        """Another page."""
        self._title.show_text(title)
        self._payout.show_pill(PillView(payout, Tone.NEUTRAL, "wallet" if payout else ""))
        self._payout.setVisible(bool(payout))

    def _show_toggle(self) -> None:
        self._toggle.show_icon("sun" if self._theme.colors.is_dark else "moon")
