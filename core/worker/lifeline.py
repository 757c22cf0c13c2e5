"""A pipe that ends a worker child with its engine, whatever the child is doing: stopped, hung in native code, or well.

Linux only; elsewhere the end of stdin, which a thread of the child waits for, has to do. PR_SET_PDEATHSIG would not: it
tells of the end of the thread that started us, and the engine starts children from threads that come and go.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping

LIFELINE_VARIABLE = "STARLING_WORKER_LIFELINE"


def hold_lifeline(environment: Mapping[str, str]) -> None:
    """Have the kernel kill this process when the other end of the pipe closes. Nothing is ever written to it."""
    descriptor = environment.get(LIFELINE_VARIABLE, "")
    if sys.platform != "linux" or not descriptor.isdecimal():
        return
    import fcntl

    pipe = int(descriptor)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)


class Lifeline:
    """The engine's end. held while the child may live: closing it, or dying, ends the child."""

    def __init__(self) -> None:
        self._theirs: int | None = None
        self._ours: int | None = None
        if sys.platform == "linux":
            self._theirs, self._ours = os.pipe()

    @property
    def passed(self) -> tuple[int, ...]:
        """What the child must inherit."""
        return () if self._theirs is None else (self._theirs,)

    @property
    def environment(self) -> dict[str, str]:
        """How the child finds it."""
        return {} if self._theirs is None else {LIFELINE_VARIABLE: str(self._theirs)}

    def started(self) -> None:
        """The child has its end, or never will: let go of ours of it."""
        if self._theirs is not None:
            os.close(self._theirs)
            self._theirs = None

    def close(self) -> None:
        """Let go of the child."""
        self.started()
        if self._ours is not None:
            os.close(self._ours)
            self._ours = None
