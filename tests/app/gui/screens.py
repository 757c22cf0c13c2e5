"""Draw every page in light and dark from a made-up node, to look at: `python -m tests.app.gui.screens FOLDER`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from PySide6.QtWidgets import QApplication

from app.gui.figures import Now
from app.gui.fonts import load_fonts, text_font
from app.gui.main_window import MainWindow
from app.gui.preferences import Preferences
from app.gui.row_list import RowList
from app.gui.theme import Theme
from app.gui.views import Link, LinkPhase
from core import events as e
from core.node_state import NodeState
from tests.app.gui import fabricated as node

PAGES = ("overview", "jobs", "earnings")


def states() -> dict[str, NodeState]:
    """Every state of the hero."""
    paused = e.WorkPaused(node.NOON, "the battery is below 40 %", node.NOON + 900)
    chain = e.TroubleFound(node.NOON, "chain", "The chain does not answer. Payments wait; nothing is lost.")
    return {
        "setup": node.fold(node.found()),
        "idle": node.fold(node.measured()),
        "joining": node.fold(node.joining()),
        "waiting": node.fold(node.waiting()),
        "paused": node.fold([*node.waiting(), *node.live(), paused]),
        "leaving": node.fold([*node.waiting(), *node.live(), e.LeaveRequested(node.NOON), chain]),
    }


def window(folder: Path, *, is_dark: bool) -> MainWindow:
    """A real window with a still clock."""
    theme = Theme(is_dark=is_dark, reduce_motion=True)
    made = MainWindow(theme, Preferences(folder / "window.ini"), clock=lambda: Now(node.NOON))
    made.resize(1280, 800)
    made.show_link(Link(LinkPhase.CONNECTED))
    made.show()
    return made


def grab(made: MainWindow, path: Path) -> None:
    QApplication.processEvents()
    QApplication.processEvents()
    made.grab().save(str(path))


def main(folder: Path) -> None:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    app = QApplication([])
    app.setStyle("Fusion")
    load_fonts()
    app.setFont(text_font())
    folder.mkdir(parents=True, exist_ok=True)
    for look in ("light", "dark"):
        made = window(folder, is_dark=look == "dark")
        made.show_state(node.serving())
        for number, name in enumerate(PAGES):
            made.show_page(number)
            grab(made, folder / f"{name}-{look}.png")
        made.show_page(1)
        made.findChild(RowList, "live_jobs").pick("j-8f2c91a044de")
        made.show_state(node.serving())
        grab(made, folder / f"jobs-details-{look}.png")
        made.show_page(0)
        for name, state in states().items():
            made.show_state(state)
            grab(made, folder / f"overview-{name}-{look}.png")
        for number, name in ((1, "jobs"), (2, "earnings")):
            made.show_state(node.fold(node.measured()))
            made.show_page(number)
            grab(made, folder / f"{name}-empty-{look}.png")
        made.hide()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
