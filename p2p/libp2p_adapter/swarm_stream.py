"""A libp2p stream as a ByteStream: one reader that is never cancelled mid-read, bounded unread bytes, whole writes."""

from __future__ import annotations

from collections import deque
from typing import Any

import trio
from libp2p.abc import ConnectionType
from libp2p.network.stream.exceptions import StreamEOF

from p2p.byte_stream import StreamBroken
from p2p.libp2p_adapter.limits import CLOSE_S, MAX_UNREAD_STREAM_BYTES, READ_BYTES, WRITE_S, UnreadBytes
from p2p.libp2p_adapter.quick_lane import QUICK_FROM_BYTES, StreamLane, lane_of


class SwarmStream:
    """Implements p2p.byte_stream.ByteStream. Someone must run pump() while the stream is in use."""

    def __init__(self, net_stream: Any, unread: UnreadBytes | None = None) -> None:
        self._net = net_stream
        self._peer = str(net_stream.muxed_conn.peer_id)
        self._all_unread = unread or UnreadBytes()
        self._arrived: deque[bytes | memoryview] = deque()
        self._unread = 0
        self._is_at_end = False
        self._fault = ""
        self._wake = trio.Event()
        self._lane: StreamLane | None = None

    @property
    def is_relayed(self) -> bool:
        """Whether its connection goes through a relay."""
        return bool(self._net.muxed_conn.get_connection_type() is ConnectionType.RELAYED)

    async def pump(self) -> None:
        """Read until the stream ends. Never paused: a writer whose window stays shut for 5 s resets (stock Yamux)."""
        self._lane = lane_of(self._net, self._take_from_lane)
        try:
            while not self._is_at_end and not self._fault:
                self._take(await self._net.read(READ_BYTES))
        except StreamEOF:
            muxed = self._net.muxed_stream
            is_reset = getattr(muxed, "reset_received", False) and not getattr(muxed, "recv_closed", True)
            self._is_at_end = not is_reset
            self._fault = "The peer reset the stream." if is_reset else self._fault
        except Exception as error:  # noqa: BLE001  libp2p raises many kinds; each means that the stream is gone
            self._fault = self._fault or f"The stream broke: {type(error).__name__}."
        finally:
            if self._lane is not None:
                self._lane.detach()
            if not self._is_at_end:
                self._fault = self._fault or "The swarm was left."
            self._wake.set()
        if self._fault:
            await self.reset()

    async def read(self) -> bytes:
        """See ByteStream."""
        while not self._arrived:
            if self._fault:
                raise StreamBroken(self._fault)
            if self._is_at_end:
                return b""
            self._wake = trio.Event()
            await self._wake.wait()
        received = b"".join(self._arrived)
        self._forget()
        return received

    async def write(self, sent: bytes) -> None:
        """See ByteStream. Shielded: libp2p corrupts the connection when a write is cancelled half-way."""
        if self._fault:
            raise StreamBroken(self._fault)
        try:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + WRITE_S):
                await self._write(sent)
                return
        except Exception as error:  # noqa: BLE001  as in pump
            self._fault = f"The peer does not take our bytes: {type(error).__name__}."
            raise StreamBroken(self._fault) from error
        self._fault = "The peer does not take our bytes."
        await self.reset()
        raise StreamBroken(self._fault)

    async def close(self) -> None:
        """See ByteStream."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
            try:
                await self._net.close_write()
            except Exception:  # noqa: BLE001  already gone
                return

    async def reset(self) -> None:
        """See ByteStream. On a stream that both sides closed it only forgets it."""
        self._fault = self._fault or "The stream was reset."
        self._forget()
        self._wake.set()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
            try:
                await self._net.reset()
            except Exception:  # noqa: BLE001  already gone
                return

    def blame(self) -> None:
        """See ByteStream. Nobody counts here; the swarm does (p2p.watched_stream)."""

    async def _write(self, sent: bytes) -> None:
        if self._lane is not None and len(sent) >= QUICK_FROM_BYTES:
            await self._lane.write(sent)
        else:
            await self._net.write(sent)

    def _take(self, received: bytes) -> None:
        if not received:
            self._is_at_end = True
        elif not self._keep(received):
            self._fault = "The peer sent more than anyone reads."

    def _take_from_lane(self, received: memoryview) -> None:
        """What is too much is left for pump to find, which ends the stream."""
        if self._lane is not None and not self._keep(received):
            self._lane.give_back(received)

    def _keep(self, received: bytes | memoryview) -> bool:
        is_room = self._unread + len(received) <= MAX_UNREAD_STREAM_BYTES
        if self._fault or not is_room or not self._all_unread.take(self._peer, len(received)):
            return False
        self._unread += len(received)
        self._arrived.append(received)
        self._wake.set()
        return True

    def _forget(self) -> None:
        self._all_unread.release(self._peer, self._unread)
        self._arrived.clear()
        self._unread = 0
