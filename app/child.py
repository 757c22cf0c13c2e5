"""Processes that the demo and the development network start: each tells on its first line that it is ready.

Never leaves one behind: a child ends when its stdin closes or on SIGTERM, and is killed when it does neither.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 25.0
TAIL_BYTES = 4_096


class ChildFailed(Exception):
    """A child process did not start or ended early; the message is its own last line."""


class Child:
    """One `python -m MODULE` of ours. stderr goes to a log file; stdout is read line by line."""

    def __init__(self, name: str, words: Sequence[str], *, log: Path) -> None:
        self.name = name
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("ab"),
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue(10_000)
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """False once it has ended."""
        return self._process.poll() is None

    def line(self, timeout_s: float = READY_TIMEOUT_S) -> dict[str, Any]:
        """The next JSON object that it prints. Raises ChildFailed when it ends or says nothing in time."""
        try:
            text = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            sentence = f"The {self.name} did not answer within {timeout_s:.0f} s. Its log is {self._log}"
            raise ChildFailed(sentence) from None
        if text is None:
            raise ChildFailed(f"The {self.name} stopped: {self.last_words()}")
        found: dict[str, Any] = msgspec.json.decode(text, type=dict)
        return found

    def last_words(self) -> str:
        """The last line of its log."""
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - TAIL_BYTES))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing."

    def stop(self) -> None:
        """Ask it to end; kill it when it does not."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.decode(errors="replace"))
        self._lines.put(None)


def end_on_signals() -> None:
    """Let Ctrl-C and SIGTERM end this process through its with blocks, so that no child stays behind. A process that
    was started in the background would otherwise ignore the first, and die of the second without stopping anything."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
