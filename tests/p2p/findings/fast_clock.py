"""A clock on which the minutes that some faults take are over in a second, while sockets work as ever."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from trio.testing import MockClock


def run_fast(law: Callable[[], Awaitable[None]], *, rate: float) -> None:
    """Run a test's body with this many seconds to the second."""
    trio.run(law, clock=MockClock(rate=rate))
