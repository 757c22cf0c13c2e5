"""Finds the engine of this home, or starts one that outlives the window.

Never kills an engine and never waits: a timer looks whether it has come up, or ended early, and says which.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import IO

from PySide6.QtCore import QElapsedTimer, QObject, QTimer, Signal

from app.lockfile import engine_address
from core.home import Home

LOOK_MS = 100
DEADLINE_MS = 60_000
LAST_WORDS_BYTES = 4_096
MAX_SENTENCE = 300
NO_WORDS = "it left no message. Start it with `starling --headless` to see why."


class EngineProcess(QObject):
    """`found` when an engine listens; `failed` carries a sentence when none came up."""

    found = Signal()
    failed = Signal(str)

    def __init__(self, home: Home, words: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._home = home
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None
        self._since = QElapsedTimer()
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_MS)
        self._timer.timeout.connect(self._look)

    def ensure(self) -> None:
        """Use the engine that runs, else start one; found or failed follows."""
        if engine_address(self._home) is None and not self._is_alive():
            try:
                self._start()
            except OSError as error:
                self.failed.emit(f"The engine could not be started: {error.strerror or error}.")
                return
        self._since.start()
        self._timer.start()

    def _start(self) -> None:
        self._home.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = _detached(engine_command(self._home, self._words), log)

    def _look(self) -> None:
        if engine_address(self._home) is not None:
            self._timer.stop()
            self.found.emit()
        elif self._process is not None and self._process.poll() is not None:
            self._fail(f"The engine ended while it started: {self._last_words()}")
        elif self._since.elapsed() > DEADLINE_MS:
            self._fail(f"The engine did not come up within a minute. Its log is {self._log}.")

    def _fail(self, sentence: str) -> None:
        self._timer.stop()
        self._process = None
        self.failed.emit(sentence)

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _last_words(self) -> str:
        """The last line that the engine wrote to its standard error."""
        try:
            text = self._log.read_bytes()[-LAST_WORDS_BYTES:].decode(errors="replace")
        except OSError:
            text = ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1][:MAX_SENTENCE] if lines else NO_WORDS

    @property
    def _log(self) -> Path:
        return self._home.logs / "engine-start.log"


def engine_command(home: Home, words: tuple[str, ...]) -> list[str]:
    """The command line of a headless engine: this interpreter's, or the frozen application's own."""
    program = [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "app"]
    return [*program, "--headless", "--home", str(home.folder), *words]


def _detached(command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """In a session of its own, so that closing the window or its terminal leaves it alone."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, creationflags=flags
        )
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
    )
