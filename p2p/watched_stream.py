"""A stream whose faults somebody counts: the one place where every exchange's blame of a peer comes together.

Changes nothing of what is read and written.
"""

from __future__ import annotations

from collections.abc import Callable

from p2p.byte_stream import ByteStream


class WatchedStream:
    """Implements ByteStream round another one."""

    def __init__(self, stream: ByteStream, blamed: Callable[[], None]) -> None:
        self._stream = stream
        self._blamed = blamed

    async def read(self) -> bytes:
        """See ByteStream."""
        return await self._stream.read()

    async def write(self, sent: bytes) -> None:
        """See ByteStream."""
        await self._stream.write(sent)

    async def close(self) -> None:
        """See ByteStream."""
        await self._stream.close()

    async def reset(self) -> None:
        """See ByteStream."""
        await self._stream.reset()

    def blame(self) -> None:
        """See ByteStream."""
        self._blamed()
