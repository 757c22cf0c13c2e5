"""Tell watchers how far long work is, and that it is over, whether it went well or not.

Never tells more often than people can read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from core import events as e
from core.journal import Journal

TELL_EVERY_S = 0.1
NEARLY = 0.999


@contextmanager
def progress_of(journal: Journal, work: str) -> Iterator[Callable[[float, str], None]]:
    """For the time of the block, a function to say how far the work is (0 to 1) and what it is doing."""
    told_at, told = 0.0, ""

    def tell(fraction: float, text: str) -> None:
        nonlocal told_at, told
        now = time.monotonic()
        if text == told and now - told_at < TELL_EVERY_S:
            return
        told_at, told = now, text
        journal.announce(e.WorkProgressed(time.time(), work, min(fraction, NEARLY), text or work))

    try:
        yield tell
    finally:
        journal.announce(e.WorkProgressed(time.time(), work, 1.0, ""))
