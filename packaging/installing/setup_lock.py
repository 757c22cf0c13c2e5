"""Let one set-up run at a time in a checkout. Never breaks another's: the system frees it with its process."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

PAUSE_S = 0.5
PATIENCE_S = 3 * 3600.0


class StillHeldError(Exception):
    """Another set-up kept the lock for longer than any set-up should take."""


@contextmanager
def only_one(folder: Path, on_wait: Callable[[str], None], *, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold the lock in `folder`; while another holds it, say so once through `on_wait` and wait."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / "owner"
    with (folder / "lock").open("a+") as file:
        _wait_for(file, lambda: on_wait(_waiting_sentence(owner)), patience_s=patience_s)
        owner.write_text(str(os.getpid()))
        try:
            yield
        finally:
            owner.unlink(missing_ok=True)
            _release(file)


def _waiting_sentence(owner: Path) -> str:
    try:
        number = owner.read_text().strip()
    except OSError:
        number = ""
    return f"Another set-up is running here{f' (process {number})' if number else ''}; waiting for it"


def _wait_for(file: TextIO, on_wait: Callable[[], None], *, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    has_said = False
    while not _take(file):
        if not has_said:
            on_wait()
            has_said = True
        if time.monotonic() > deadline:
            raise StillHeldError
        time.sleep(PAUSE_S)


if sys.platform == "win32":
    import msvcrt

    def _take(file: TextIO) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _release(file: TextIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(file: TextIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _release(file: TextIO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
