"""Lines above the hero that need the owner's eye.

Only shows; a notice goes when its cause goes.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout, QWidget

from app.gui.fonts import text_font
from app.gui.label import IconView, Label
from app.gui.theme import Theme
from app.gui.views import Notice, Tone

MOST = 3


class NoticeBar(QFrame):
    """One sentence on a tinted ground."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setProperty("notice", "warn")
        self._icon = IconView(theme, "triangle-alert", size=16, role="warn")
        self._text = Label(font=text_font(13), tone="text")
        self._text.setWordWrap(True)
        line = QHBoxLayout(self)
        line.setContentsMargins(14, 9, 14, 9)
        line.setSpacing(10)
        line.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignTop)
        line.addWidget(self._text, 1)

    def show_notice(self, notice: Notice) -> None:
        """Another sentence."""
        name = "danger" if notice.tone is Tone.DANGER else "warn"
        if name != self.property("notice"):
            self.setProperty("notice", name)
            self.style().unpolish(self)
            self.style().polish(self)
        self._icon.show_icon("triangle-alert", name)
        self._text.show_text(notice.text)


class NoticeBars(QWidget):
    """At most three; hidden when there is none."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._bars = [NoticeBar(theme) for _ in range(MOST)]
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        for bar in self._bars:
            column.addWidget(bar)
        self.hide()

    def show_notices(self, notices: tuple[Notice, ...]) -> None:
        """Other sentences."""
        for index, bar in enumerate(self._bars):
            bar.setVisible(index < len(notices))
            if index < len(notices):
                bar.show_notice(notices[index])
        self.setVisible(bool(notices))
