"""A limit in bytes a second, for all who share it. Pure: `now` is an argument, and whoever takes waits by himself."""

from __future__ import annotations

BURST_S = 0.25


class UploadLimit:
    """bytes_per_s 0: no limit. What is taken is owed at once, so that takers wait one after another."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0

    def take(self, count: int, *, now: float) -> float:
        """Seconds to wait before so many bytes may go."""
        if self._bytes_per_s <= 0:
            return 0.0
        began = max(self._free_at, now - BURST_S)
        self._free_at = began + count / self._bytes_per_s
        return max(0.0, began - now)
