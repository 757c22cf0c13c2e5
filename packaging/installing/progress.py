"""Tell what the set-up does: numbered steps with their time on stderr, everything else in the log file.

Never writes to stdout, which belongs to the words that follow (`--json`).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from installing.choices import Advice

COUNT = re.compile(r"^\s*\[\s*(\d+)/(\d+)\]")
LIMIT_S = 3 * 3600.0
TAIL_CHARACTERS = 6_000
TICK_S = 1.0
QUIET_SHARE = 0.1
RULE = "=" * 78


class StepError(Exception):
    """A command of a step ended badly; carries the end of what it said."""

    def __init__(self, tail: str) -> None:
        super().__init__("a step failed")
        self.tail = tail


def parse_count(line: str) -> tuple[int, int] | None:
    """(12, 193) from ninja's "[12/193] Building ...", else None."""
    found = COUNT.match(line)
    if found is None:
        return None
    done, total = int(found[1]), int(found[2])
    return (done, total) if 0 < done <= total else None


def in_words(seconds: float) -> str:
    """A time as people say it: "4 s", "2 min 05 s"."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def in_lines(advice: Advice) -> str:
    """An advice as its owner reads it: the sentence, and the line to type under it."""
    return f"{advice.sentence}.\n" + (f"    {advice.line}\n" if advice.line else "")


@dataclass
class Steps:
    """Numbered steps on one screen and one log. Owns the line that is being drawn."""

    total: int
    screen: TextIO
    clock: Callable[[], float] = time.monotonic
    number: int = 0
    _title: str = ""
    _detail: str = ""
    _began: float = 0.0
    _said: float = 0.0
    _drawing: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show one step while it lasts, and its time when it is done."""
        self.number += 1
        self._title, self._detail, self._said, self._began = title, "", 0.0, self.clock()
        self._start_line()
        finished = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(finished,), daemon=True)
        ticker.start()
        try:
            yield
        except BaseException:
            finished.set()
            ticker.join(timeout=2 * TICK_S)
            self._end_line("stopped after")
            raise
        finished.set()
        ticker.join(timeout=2 * TICK_S)
        self._end_line("done in")

    def count(self, done: int, total: int) -> None:
        """Show how far a counted step is: every change on a terminal, every tenth in a log."""
        self._detail = f"[{done}/{total}]"
        share = done / total
        if not self.screen.isatty() and share >= self._said + QUIET_SHARE:
            self._said = share
            self._write(f"      [{done}/{total}] after {in_words(self.clock() - self._began)}\n")

    def say(self, sentence: str) -> None:
        """Say one thing to the owner."""
        self._write(f"{sentence}.\n")

    def shout(self, advice: Advice) -> None:
        """Say something that must not be overlooked, with the exact line to type under it."""
        self._write(f"{RULE}\n{in_lines(advice)}{RULE}\n")

    def _start_line(self) -> None:
        if self.screen.isatty():
            self._draw()
        else:
            self._write(f"[{self.number}/{self.total}] {self._title}\n")

    def _tick(self, finished: threading.Event) -> None:
        while not finished.wait(TICK_S):
            if self.screen.isatty():
                self._draw()

    def _end_line(self, word: str) -> None:
        spent = in_words(self.clock() - self._began)
        if self.screen.isatty():
            self._write(f"[{self.number}/{self.total}] {self._title}: {word} {spent}\n")
        else:
            self._write(f"      {word} {spent}\n")

    def _draw(self) -> None:
        spent = in_words(self.clock() - self._began)
        with self._drawing:
            self.screen.write(f"\r\x1b[K[{self.number}/{self.total}] {self._title} {self._detail} {spent}")
            self.screen.flush()

    def _write(self, text: str) -> None:
        with self._drawing:
            self.screen.write(("\r\x1b[K" if self.screen.isatty() else "") + text)
            self.screen.flush()


def run_logged(
    words: Sequence[str],
    log: Path,
    *,
    on_line: Callable[[str], None] = lambda line: None,
    extra_env: Mapping[str, str] | None = None,
    limit_s: float = LIMIT_S,
) -> None:
    """Run a command with its output in the log; StepError with the end of that output if it fails or takes too long."""
    with log.open("a", encoding="utf-8", errors="replace") as record:
        record.write(f"\n$ {' '.join(words)}\n")
        record.flush()
        tail = _pump(words, record, on_line=on_line, env={**os.environ, **(extra_env or {})}, limit_s=limit_s)
    if tail is not None:
        raise StepError(tail)


def _pump(
    words: Sequence[str],
    record: TextIO,
    *,
    on_line: Callable[[str], None],
    env: Mapping[str, str],
    limit_s: float,
) -> str | None:
    """Copy a child's lines into the record until it ends; None for success, else the end of what it said."""
    try:
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", env=env, start_new_session=True,
        )  # fmt: skip
    except OSError as fault:
        return str(fault)
    assert child.stdout is not None
    deadline = threading.Timer(limit_s, _kill, (child,))
    deadline.daemon = True
    deadline.start()
    tail = ""
    try:
        for line in child.stdout:
            record.write(line)
            record.flush()
            tail = (tail + line)[-TAIL_CHARACTERS:]
            on_line(line)
        return None if child.wait(timeout=60) == 0 else tail
    finally:
        deadline.cancel()
        if child.poll() is None:
            _kill(child)


def _kill(child: subprocess.Popen[str]) -> None:
    """Kill a child with all that it started: a compiler would outlive its pip."""
    if sys.platform == "win32":
        child.kill()
        return
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
