"""A libp2p stream for one question of libp2p's own protocols: so many bytes, whole closes, and nothing left open.

Stock reads up to 1 to 4 MiB of a stranger's answer, and a cancelled close leaves the stream open for ever.
"""

from __future__ import annotations

import logging
from typing import Any

import trio
from libp2p.io.exceptions import MessageTooLarge
from libp2p.network.stream.exceptions import StreamEOF

from p2p.libp2p_adapter.limits import CLOSE_S, MAX_NEGOTIATION_BYTES

log = logging.getLogger(__name__)


class BoundedStream:
    """Everything but reading and closing is the stream's own."""

    def __init__(self, net_stream: Any, *, most: int) -> None:
        self._net = net_stream
        self._left = most
        self._is_silent = True

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._net, attribute)

    async def read(self, n: int | None = None) -> bytes:
        """At most n bytes. Raises MessageTooLarge once the peer has sent more than it may."""
        if self._left <= 0:
            raise MessageTooLarge("the peer's answer is too long")
        received = bytes(await self._net.read(min(n if n and n > 0 else self._left, self._left)))
        self._left -= len(received)
        self._is_silent = False
        return received

    async def close(self) -> None:
        """Say goodbye, let a peer that has not answered take what was sent, and forget the stream. Bounded."""
        try:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                await self._net.close_write()
            with trio.move_on_after(CLOSE_S if self._is_silent else 0):
                await self._net.read(1)
        except Exception as error:  # noqa: BLE001  already gone
            log.debug("a stream was gone before it was closed: %s", type(error).__name__)
        finally:
            await self.reset()

    async def reset(self) -> None:
        """Forget the stream. Bounded; not cancelled; never raises."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
            try:
                await self._net.reset()
            except Exception:  # noqa: BLE001  already gone
                return


class Greeted:
    """An inbound stream that may bring only so many bytes until both sides have agreed on a protocol.

    Stock believes the length that a protocol line announces, and keeps whatever comes.
    """

    def __init__(self, net_stream: Any) -> None:
        self.inner = net_stream
        self._left = MAX_NEGOTIATION_BYTES
        self._is_agreed = False

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.inner, attribute)

    async def read(self, n: int | None = None) -> bytes:
        """As the stream's. Raises MessageTooLarge when the peer talks too long without agreeing on anything."""
        if self._is_agreed:
            return bytes(await self.inner.read(n))
        if self._left <= 0:
            raise MessageTooLarge("the peer agrees on no protocol")
        received = bytes(await self.inner.read(min(n if n and n > 0 else self._left, self._left)))
        self._left -= len(received)
        return received

    def set_protocol(self, protocol: Any) -> None:
        """Both sides have agreed: the protocol has limits of its own."""
        self._is_agreed = True
        self.inner.set_protocol(protocol)


class OneQuestion:
    """A stream as the stock answerer sees it: the one question that was read and checked, then the end."""

    def __init__(self, net_stream: Any, question: bytes) -> None:
        self._net = net_stream
        self._question = question
        self._is_over = False
        self.is_refused = False

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._net, attribute)

    async def read(self, n: int | None = None) -> bytes:
        """The question's next bytes. Raises StreamEOF after them."""
        await trio.lowlevel.checkpoint()
        if not self._question:
            self._is_over = True
            raise StreamEOF
        size = len(self._question) if n is None or n < 0 else n
        taken, self._question = self._question[:size], self._question[size:]
        return taken

    async def close(self) -> None:
        """Whoever made this closes the stream."""

    async def reset(self) -> None:
        """Whoever made this closes the stream; stock resets at the end of the question too."""
        self.is_refused = not self._is_over
