"""The left side of the window: mark, network, pages, and one line of status.

Holds only pages that exist; `page_wanted` carries the number of one.
"""

from __future__ import annotations

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QEnterEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QFrame, QHBoxLayout, QVBoxLayout, QWidget

from app.gui.card import line
from app.gui.fonts import text_font
from app.gui.label import IconView, Label
from app.gui.theme import Theme
from app.gui.views import Frame, Tone

WIDTH = 208
ITEM_HEIGHT = 36
PAGES = (("Overview", "layout-dashboard"), ("Jobs", "list-checks"), ("Earnings", "wallet"))
JOBS = 1


class NavItem(QAbstractButton):
    """A page's name with its icon; badge is a count at the right, empty for none."""

    def __init__(self, theme: Theme, text: str, *, icon: str) -> None:
        super().__init__()
        self._theme = theme
        self._icon_name = icon
        self._badge = ""
        self.setText(text)
        self.setObjectName(f"page_{text.lower()}")
        self.setCheckable(True)
        self.setFixedHeight(ITEM_HEIGHT)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        theme.changed.connect(self.update)

    @property
    def badge(self) -> str:
        """The count that is shown."""
        return self._badge

    def show_badge(self, badge: str) -> None:
        """Another count."""
        if badge != self._badge:
            self._badge = badge
            self.update()

    def sizeHint(self) -> QSize:  # noqa: N802
        """As wide as the sidebar lets it."""
        return QSize(WIDTH - 24, ITEM_HEIGHT)

    def enterEvent(self, event: QEnterEvent) -> None:  # noqa: N802
        """Light up."""
        self.update()

    def leaveEvent(self, event: QEvent) -> None:  # noqa: N802
        """And down."""
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Ground, icon, name, badge."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_ground(painter)
        is_on = self.isChecked()
        role = "accent_text" if is_on else "text2"
        icon = QRectF(11, self.height() / 2 - 8.5, 17, 17)
        self._theme.paint_icon(painter, self._icon_name, rect=icon, color=self._theme.color(role))
        painter.setPen(self._theme.color("text" if is_on else "text2"))
        painter.setFont(text_font(13, 600 if is_on else 500))
        left = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        painter.drawText(QRectF(38, 0, self.width() - 70, self.height()), left, self.text())
        if self._badge:
            self._paint_badge(painter)

    def _paint_ground(self, painter: QPainter) -> None:
        rect = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        if self.hasFocus():
            painter.setPen(QPen(self._theme.color("accent"), 1))
        elif self.isChecked():
            painter.setPen(QPen(self._theme.color("raised" if self._theme.colors.is_dark else "border"), 1))
        else:
            painter.setPen(Qt.PenStyle.NoPen)
        ground = QColor(Qt.GlobalColor.transparent)
        if self.isChecked():
            ground = self._theme.color("raised")
        elif self.underMouse():
            ground = self._theme.color("neutral_soft" if not self._theme.colors.is_dark else "hover")
        painter.setBrush(ground)
        painter.drawRoundedRect(rect, 8, 8)

    def _paint_badge(self, painter: QPainter) -> None:
        font = text_font(11, 600)
        painter.setFont(font)
        width = max(22.0, painter.fontMetrics().horizontalAdvance(self._badge) + 14.0)
        rect = QRectF(self.width() - width - 10, self.height() / 2 - 9, width, 18)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._theme.color("accent_soft"))
        painter.drawRoundedRect(rect, 9, 9)
        painter.setPen(self._theme.color("accent_text"))
        painter.drawText(rect, int(Qt.AlignmentFlag.AlignCenter), self._badge)


class NetworkTag(QWidget):
    """The network's name on a soft ground; nothing when it is not known."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._text = ""
        self.setFixedHeight(20)
        theme.changed.connect(self.update)

    def show_text(self, text: str) -> None:
        """Another network."""
        if text != self._text:
            self._text = text
            self.setAccessibleName(f"Network: {text}")
            self.updateGeometry()
            self.update()

    def sizeHint(self) -> QSize:  # noqa: N802
        """As wide as its word."""
        return QSize(self.fontMetrics().horizontalAdvance(self._text) + 16 if self._text else 0, 20)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw it."""
        if not self._text:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._theme.color("neutral_soft"))
        painter.drawRoundedRect(QRectF(self.rect()), 10, 10)
        painter.setPen(self._theme.color("text2"))
        painter.setFont(text_font(12, 500))
        painter.drawText(self.rect(), int(Qt.AlignmentFlag.AlignCenter), self._text)


class StatusDot(QWidget):
    """A dot in the tone of the status."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._tone = Tone.NEUTRAL
        self.setFixedSize(9, 9)
        theme.changed.connect(self.update)

    def show_tone(self, tone: Tone) -> None:
        """Another tone."""
        self._tone = tone
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw it."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._theme.chart(0) if self._tone is Tone.ACCENT else self._theme.tone(self._tone))
        painter.drawEllipse(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5))


class Sidebar(QFrame):
    """208 wide."""

    page_wanted = Signal(int)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("sidebar")
        self.setFixedWidth(WIDTH)
        self._items = [NavItem(theme, text, icon=icon) for text, icon in PAGES]
        self._group = QButtonGroup(self)
        self._group.setExclusive(True)
        for number, item in enumerate(self._items):
            self._group.addButton(item, number)
        self._items[0].setChecked(True)
        self._group.idClicked.connect(self.page_wanted)
        self._network = NetworkTag(theme)
        self._dot = StatusDot(theme)
        self._status = Label(font=text_font(13, 600), is_elided=True)
        self._note = Label(font=text_font(12), tone="text2", is_elided=True)
        self._lay_out(IconView(theme, "starling", size=24, role="accent_text"))

    def show_page(self, number: int) -> None:
        """Mark the page that is shown."""
        self._items[number].setChecked(True)

    def show_frame(self, view: Frame) -> None:
        """Another status."""
        self._network.show_text(view.network)
        self._items[JOBS].show_badge(str(view.live_jobs) if view.live_jobs else "")
        self._status.show_text(view.status)
        self._note.show_text(view.status_note)
        self._note.setVisible(bool(view.status_note))
        self._dot.show_tone(view.status_tone)

    def _lay_out(self, mark: IconView) -> None:
        brand = QHBoxLayout()
        brand.setContentsMargins(5, 0, 0, 0)
        brand.setSpacing(7)
        brand.addWidget(mark)
        brand.addWidget(Label("Starling", font=text_font(16, 600)))
        brand.addStretch(1)
        brand.addWidget(self._network)
        status = QVBoxLayout()
        status.setSpacing(0)
        status.addWidget(self._status)
        status.addWidget(self._note)
        foot = QHBoxLayout()
        foot.setContentsMargins(8, 8, 4, 0)
        foot.setSpacing(9)
        foot.addWidget(self._dot)
        foot.addLayout(status, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 17, 12, 14)
        column.setSpacing(0)
        column.addLayout(brand)
        column.addSpacing(15)
        for item in self._items:
            column.addWidget(item)
            column.addSpacing(1)
        column.addStretch(1)
        column.addWidget(line())
        column.addLayout(foot)
