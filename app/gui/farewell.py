"""What is said once when the window is closed: the engine goes on without it.

Only asks; the window acts on the answer.
"""

from __future__ import annotations

from enum import Enum

from PySide6.QtWidgets import QMessageBox, QWidget

from app.gui.figures import plural
from core.node_state import NodeState, Presence


class Farewell(Enum):
    """What the owner wants."""

    CLOSE_WINDOW = "close_window"
    QUIT_ENGINE = "quit_engine"
    STAY = "stay"


def farewell_words(state: NodeState | None) -> str:
    """What goes on after the window is closed."""
    if state is None or state.presence is Presence.IDLE:
        return "The engine stays ready in the background and takes no jobs. Open Starling again to join."
    jobs = f" {plural(len(state.jobs), 'job')} in progress will finish." if state.jobs else ""
    return f"This computer stays in the network and goes on earning.{jobs} Open Starling again to see it or to leave."


def ask_farewell(parent: QWidget, state: NodeState | None) -> Farewell:
    """Ask in a small dialog."""
    dialog = QMessageBox(parent)
    dialog.setWindowTitle("Close Starling")
    dialog.setText("Starling keeps running when this window is closed.")
    dialog.setInformativeText(farewell_words(state))
    close = dialog.addButton("Close window", QMessageBox.ButtonRole.AcceptRole)
    leave = dialog.addButton("Quit engine", QMessageBox.ButtonRole.DestructiveRole)
    dialog.addButton("Cancel", QMessageBox.ButtonRole.RejectRole)
    dialog.setDefaultButton(close)
    dialog.exec()
    if dialog.clickedButton() is close:
        return Farewell.CLOSE_WINDOW
    return Farewell.QUIT_ENGINE if dialog.clickedButton() is leave else Farewell.STAY
