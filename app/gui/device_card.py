"""The device card of the overview: load, memory, power and heat of the hardware that serves.

Only shows; what the device does not say has a dash.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.gui.bar import BarView
from app.gui.card import Card, heading
from app.gui.fonts import text_font
from app.gui.gauge import Gauge
from app.gui.label import IconView, Label
from app.gui.theme import Theme
from app.gui.views import DeviceCard as DeviceView
from app.gui.views import Meter

METERS = 3


class MeterView(QWidget):
    """A labelled bar."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._label = Label(font=text_font(12), tone="text2")
        self._text = Label(font=text_font(13, 500))
        self._bar = BarView(theme)
        head = QHBoxLayout()
        head.setSpacing(2)
        head.addWidget(self._label)
        head.addStretch(1)
        head.addWidget(self._text)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(head)
        column.addWidget(self._bar)

    def show_meter(self, meter: Meter) -> None:
        """Another reading."""
        self._label.show_text(meter.label)
        self._text.show_text(meter.text)
        self._bar.show_fraction(meter.fraction, meter.ours)


class DeviceCard(Card):
    """Gauge and meters."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(margins=(18, 13, 18, 13), spacing=6)
        self._title = heading("GPU")
        self._name = Label(font=text_font(12), tone="text2", is_elided=True)
        self._name.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._gauge = Gauge(theme, "load")
        self._meters = [MeterView(theme) for _ in range(METERS)]
        self._footer = Label(font=text_font(12), tone="text2", is_elided=True)
        head = QHBoxLayout()
        head.setSpacing(12)
        head.addWidget(self._title)
        head.addWidget(self._name, 1)
        meters = QVBoxLayout()
        meters.setSpacing(12)
        meters.addStretch(1)
        for meter in self._meters:
            meters.addWidget(meter)
        meters.addStretch(1)
        body = QHBoxLayout()
        body.setSpacing(14)
        body.addWidget(self._gauge, 0, Qt.AlignmentFlag.AlignVCenter)
        body.addLayout(meters, 1)
        foot = QHBoxLayout()
        foot.setSpacing(6)
        foot.addWidget(IconView(theme, "shield-check", size=14))
        foot.addWidget(self._footer, 1)
        self.column.addLayout(head)
        self.column.addLayout(body, 1)
        self.column.addLayout(foot)

    def show_device(self, view: DeviceView) -> None:
        """Another reading."""
        self._title.show_text(view.title)
        self._name.show_text(view.name)
        self._gauge.show_load(view.load, view.load_text)
        for meter, shown in zip(self._meters, view.meters, strict=True):
            meter.show_meter(shown)
        self._footer.show_text(view.footer)
