"""A clock on which the minutes that some faults take are over in a second, while sockets work as ever."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio
from trio.testing import MockClock


def run_on_a_clock(law: Callable[[MockClock], Awaitable[None]]) -> None:
    """Run a test's body with a clock that it may hurry (clock.rate) once all is connected: dials have deadlines too."""
    clock = MockClock(rate=1)
    trio.run(partial(law, clock), clock=clock)
