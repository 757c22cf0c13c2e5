"""One engine a home: an OS lock that dies with its process, beside the address of the control link.

Never trusts a left-over file: only the OS lock says whether an engine runs.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import IO

from core.home import MAX_SOCKET_PATH_BYTES, Home

LOCK_ATTEMPTS = 5
LOCK_RETRY_S = 0.05


class HomeLocked(Exception):
    """Another engine runs in this home; the message is one sentence for the owner."""


class EngineLock:
    """Held for an engine's whole life. Text of the lock file: process id, then the control link's address."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._file: IO[str] | None = None

    def __enter__(self) -> EngineLock:
        path = self._home.lock
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_file = path.open("a+", encoding="utf-8")
        if not _lock_soon(lock_file):
            lock_file.seek(0)
            holder = lock_file.read(200).splitlines()
            lock_file.close()
            process = f" (process {holder[0]})" if holder else ""
            raise HomeLocked(
                f"Starling already runs in {self._home.folder}{process}. "
                "Use `starling quit` to stop it, or --home to use another folder."
            )
        self._file = lock_file
        self._write("")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def publish(self, address: str) -> None:
        """Write down where clients find the control link."""
        self._write(address)

    def _write(self, address: str) -> None:
        if self._file is None:
            raise RuntimeError("the lock is not held")
        self._file.seek(0)
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n{address}\n")
        self._file.flush()


def engine_address(home: Home) -> str | None:
    """Where the running engine of this home listens, or None when none runs or it is not ready."""
    try:
        with home.lock.open("r+", encoding="utf-8") as lock_file:
            if try_lock(lock_file):
                return None
            lines = lock_file.read(500).splitlines()
    except OSError:
        return None
    return lines[1] if len(lines) > 1 and lines[1] else None


def is_home_locked(home: Home) -> bool:
    """Whether an engine runs, starts or stops in this home."""
    try:
        with home.lock.open("r+", encoding="utf-8") as lock_file:
            return not try_lock(lock_file)
    except OSError:
        return False


def control_address(home: Home) -> str:
    """Where an engine of this home should listen: a socket in its run folder, or loopback TCP where that cannot be."""
    path = str(home.control_socket)
    if sys.platform == "win32" or len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        return "tcp:127.0.0.1:0"
    return path


def try_lock(lock_file: IO[str]) -> bool:
    """Take the OS lock of an open file without waiting; False when another process holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock_file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _lock_soon(lock_file: IO[str]) -> bool:
    """Take the lock, trying a few times: a client that looks whether an engine runs holds it for a moment."""
    for _ in range(LOCK_ATTEMPTS):
        if try_lock(lock_file):
            return True
        time.sleep(LOCK_RETRY_S)
    return False
