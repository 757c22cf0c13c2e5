"""A job's conversation on a stream: frames out in order, events in, each wait with its deadline.

Never decides what to say. One task receives at a time; any task may send.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import trio

from p2p.byte_stream import ByteStream, StreamBroken
from p2p.messages import Keep

KEEP_EVERY_S = 5.0
SILENCE_S = 15.0
HANG_UP_S = 2.0

Said = TypeVar("Said", contravariant=True)
Heard = TypeVar("Heard", covariant=True)


class Conversation(Protocol[Said, Heard]):
    """One end of a sans-IO protocol machine."""

    @property
    def is_over(self) -> bool:
        """True once the last word is said."""

    def receive_data(self, received: bytes) -> None:
        """Bytes from the peer."""

    def next_event(self) -> Heard | None:
        """The next message, or None when more bytes are needed."""

    def send(self, message: Said) -> bytes:
        """The bytes of a message."""


class JobLink(Generic[Said, Heard]):
    """One end of one job on one stream."""

    def __init__(self, stream: ByteStream, conversation: Conversation[Said | Keep, Heard]) -> None:
        self._stream = stream
        self._conversation = conversation
        self._sending = trio.Lock()
        self._is_at_end = False

    async def send(self, message: Said | Keep) -> None:
        """Say this. Raises LocalProtocolError, StreamBroken."""
        async with self._sending:
            await self._stream.write(self._conversation.send(message))

    async def receive(self, *, within_s: float = SILENCE_S) -> Heard | None:
        """The peer's next message, or None when it has hung up properly. Raises RemoteProtocolError, StreamBroken."""
        with trio.move_on_after(within_s):
            return await self._next()
        raise StreamBroken(f"The peer said nothing for {within_s:.0f} seconds.")

    async def keep_alive(self) -> None:
        """Say Keep now and then, until cancelled or the job or the stream is over."""
        while True:
            await trio.sleep(KEEP_EVERY_S)
            async with self._sending:
                if self._conversation.is_over:
                    return
                try:
                    await self._stream.write(self._conversation.send(Keep()))
                except StreamBroken:
                    return

    async def hang_up(self) -> None:
        """Say that we will say no more, and wait a little until the peer does, so that our last words are read."""
        await self._stream.close()
        with trio.move_on_after(HANG_UP_S):
            try:
                while await self._stream.read():
                    continue
            except StreamBroken:
                return

    async def _next(self) -> Heard | None:
        while (event := self._conversation.next_event()) is None:
            if self._is_at_end:
                return None
            received = await self._stream.read()
            self._is_at_end = not received
            self._conversation.receive_data(received)
        return event
