"""How far long work is, on stderr, for a command line that waits for it: its own work's, or a running engine's.

Never keeps the work waiting.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress

from app.control_client import ControlClient, ControlLinkLost, EngineNotRunning
from core import events as e
from core.journal import Journal


class ProgressLine:
    """A line for each new thing that is done; on a terminal the last one is rewritten as it moves on."""

    def __init__(self) -> None:
        self._told = ""
        self._is_open = False

    def tell(self, fraction: float, text: str) -> None:
        """Say how far it is."""
        is_new = text != self._told
        self._told = text
        if sys.stderr.isatty():
            start = "\n" if is_new and self._is_open else "\r"
            print(f"{start}{fraction:4.0%}  {text}", end="", file=sys.stderr, flush=True)
            self._is_open = True
        elif is_new:
            print(f"{fraction:4.0%}  {text}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """What is written next begins a line of its own."""
        if self._is_open:
            print(file=sys.stderr, flush=True)
        self._is_open = False


async def tell_progress(journal: Journal, line: ProgressLine) -> None:
    """Tell of the work in this process until cancelled."""
    with journal.watch() as watcher:
        async for numbered in watcher.events:
            if isinstance(numbered.event, e.WorkProgressed) and numbered.event.fraction < 1.0:
                line.tell(numbered.event.fraction, numbered.event.text)


def follow_engine(client: ControlClient, line: ProgressLine) -> None:
    """Tell how far the engine is, beside this thread, which waits for its reply."""
    threading.Thread(target=_follow, args=(client, line), daemon=True).start()


def _follow(client: ControlClient, line: ProgressLine) -> None:
    with suppress(EngineNotRunning, ControlLinkLost):
        for state in client.watch():
            if state.progress is not None:
                line.tell(state.progress.fraction, state.progress.text)
