"""Buttons of the window: primary, secondary, ghost and icon-only, with icons that follow the theme.

Never does anything by itself: whoever makes one connects it.
"""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QPushButton

from app.gui.fonts import text_font
from app.gui.theme import Theme

ICON = 17
GAP = 6
ICON_ROLES = {"primary": "on_accent", "secondary": "text2", "ghost": "text2", "icon": "text2", "danger": "danger"}


class Button(QPushButton):
    """kind: primary, secondary, ghost, icon or danger. An icon button needs a tip, which is also its spoken name."""

    def __init__(self, theme: Theme, text: str = "", *, icon: str = "", kind: str = "secondary") -> None:
        super().__init__(text)
        self._theme = theme
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._icon_name = icon
        self._kind = kind
        self.setProperty("kind", kind)
        self.setFont(text_font(13, 600 if kind in ("primary", "secondary", "danger") else 500))
        self.setIconSize(QSize(ICON + GAP if text else ICON, ICON))
        theme.changed.connect(self._paint_icon)
        self._paint_icon()

    def make_large(self) -> Button:
        """44 high, for the one or two things that matter on a page."""
        self.setProperty("scale", "large")
        return self

    def named(self, name: str, tip: str = "") -> Button:
        """Give it its object name and, where the text does not say it, a tip."""
        self.setObjectName(name)
        if tip:
            self.setToolTip(tip)
            self.setAccessibleName(tip)
        return self

    def show_icon(self, name: str) -> None:
        """Another icon."""
        self._icon_name = name
        self._paint_icon()

    def _paint_icon(self) -> None:
        if self._icon_name:
            color = self._theme.color(ICON_ROLES[self._kind])
            self.setIcon(self._theme.icon(self._icon_name, color, size=ICON, gap=GAP if self.text() else 0))
