"""The first page: what this computer does now and what that earns.

Sends commands as values; never carries one out.
"""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from app.gui.device_card import DeviceCard
from app.gui.hero_card import HeroCard
from app.gui.network_card import NetworkCard
from app.gui.notice_bar import NoticeBars
from app.gui.running_card import RunningCard
from app.gui.theme import Theme
from app.gui.throughput_card import ThroughputCard
from app.gui.tile_card import TileCard
from app.gui.views import Overview

TILES = 4


class OverviewPage(QWidget):
    """Hero, tiles, chart, device, running jobs and network."""

    command_given = Signal(object)
    retry_wanted = Signal()
    jobs_wanted = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setProperty("ground", "app")
        self._notices = NoticeBars(theme)
        self._hero = HeroCard(theme)
        self._tiles = [TileCard(theme) for _ in range(TILES)]
        self._throughput = ThroughputCard(theme)
        self._device = DeviceCard(theme)
        self._running = RunningCard(theme)
        self._network = NetworkCard(theme)
        self._hero.command_given.connect(self.command_given)
        self._hero.retry_wanted.connect(self.retry_wanted)
        self._running.all_wanted.connect(self.jobs_wanted)
        self._lay_out()

    def show_overview(self, view: Overview) -> None:
        """Another state of the node, or a later second."""
        self._notices.show_notices(view.notices)
        self._hero.show_hero(view.hero)
        for card, tile in zip(self._tiles, view.tiles, strict=True):
            card.show_tile(tile)
        self._throughput.show_throughput(view.throughput)
        self._device.show_device(view.device)
        self._running.show_running(view.running, view.tiles[0].unit)
        self._network.show_network(view.network)

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 0, 24, 20)
        column.setSpacing(14)
        column.addWidget(self._notices)
        column.addWidget(self._hero)
        tiles = QHBoxLayout()
        tiles.setSpacing(14)
        for tile in self._tiles:
            tiles.addWidget(tile, 1)
        column.addLayout(tiles)
        grid = QGridLayout()
        grid.setSpacing(14)
        grid.addWidget(self._throughput, 0, 0)
        grid.addWidget(self._device, 0, 1)
        grid.addWidget(self._running, 1, 0)
        grid.addWidget(self._network, 1, 1)
        grid.setColumnStretch(0, 638)
        grid.setColumnStretch(1, 372)
        grid.setColumnMinimumWidth(1, 300)
        grid.setRowStretch(0, 242)
        grid.setRowStretch(1, 222)
        grid.setRowMinimumHeight(0, 200)
        grid.setRowMinimumHeight(1, 216)
        column.addLayout(grid, 1)
