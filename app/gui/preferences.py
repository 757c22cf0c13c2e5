"""What the window itself remembers: look, motion, size, and what it has told the owner already.

Lies in the home as window.ini. Never holds anything about jobs, money or keys.
"""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QByteArray, QSettings, Qt
from PySide6.QtGui import QGuiApplication


class Preferences:
    """Written at once; a file that cannot be written loses nothing but comfort."""

    def __init__(self, path: Path) -> None:
        self._stored = QSettings(str(path), QSettings.Format.IniFormat)

    @property
    def is_dark(self) -> bool:
        """The owner's choice, or the system's."""
        chosen = self._stored.value("look/dark")
        if chosen is None:
            return QGuiApplication.styleHints().colorScheme() is Qt.ColorScheme.Dark
        return str(chosen).lower() == "true"

    def choose_dark(self, is_dark: bool) -> None:
        """Remember the look."""
        self._stored.setValue("look/dark", is_dark)

    @property
    def reduce_motion(self) -> bool:
        """True when nothing may move by itself."""
        return str(self._stored.value("look/reduce_motion", "false")).lower() == "true"

    def choose_motion(self, is_reduced: bool) -> None:
        """Remember whether motion is reduced."""
        self._stored.setValue("look/reduce_motion", is_reduced)

    @property
    def knows_closing(self) -> bool:
        """True once the owner was told that closing leaves the engine running."""
        return str(self._stored.value("told/closing", "false")).lower() == "true"

    def mark_closing_told(self) -> None:
        """Tell it only once."""
        self._stored.setValue("told/closing", True)

    @property
    def geometry(self) -> QByteArray:
        """Where the window was; empty the first time."""
        stored = self._stored.value("window/geometry")
        return stored if isinstance(stored, QByteArray) else QByteArray()

    def keep_geometry(self, geometry: QByteArray) -> None:
        """Remember where the window is."""
        self._stored.setValue("window/geometry", geometry)
