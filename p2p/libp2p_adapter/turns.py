"""One at a time for each key: who comes second waits, and may find the work done. Keeps nothing when all is quiet."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Turns:
    """Locks that exist while somebody holds or wants them."""

    def __init__(self) -> None:
        self._locks: dict[str, trio.Lock] = {}
        self._wanted: Counter[str] = Counter()

    @asynccontextmanager
    async def of(self, key: str) -> AsyncIterator[None]:
        """Alone with this key while inside."""
        lock = self._locks.setdefault(key, trio.Lock())
        self._wanted[key] += 1
        try:
            async with lock:
                yield
        finally:
            self._wanted[key] -= 1
            if not self._wanted[key]:
                del self._wanted[key], self._locks[key]
