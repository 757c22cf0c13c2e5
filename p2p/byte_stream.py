"""What a job or query needs of the stream that carries it. Declares only: the libp2p adapter and tests implement it."""

from __future__ import annotations

from typing import Protocol


class StreamBroken(Exception):
    """The stream was reset, the peer is gone, or a write took too long; the message says which, for people."""


class ByteStream(Protocol):
    """One stream to one peer. One task reads at a time; whoever writes keeps whole frames together."""

    async def read(self) -> bytes:
        """The next bytes, or b"" at the peer's end of writing. Losing none when cancelled. Raises StreamBroken."""

    async def write(self, sent: bytes) -> None:
        """All of these bytes, within the implementer's deadline; not torn by cancellation. Raises StreamBroken."""

    async def close(self) -> None:
        """We will say no more, politely. Bounded; never raises."""

    async def reset(self) -> None:
        """Let go at once, both ways. Bounded; never raises."""

    def blame(self) -> None:
        """The peer broke a protocol on this stream: whoever counts that is told. Never raises."""
