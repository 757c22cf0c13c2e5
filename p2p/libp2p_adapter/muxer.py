"""Yamux for the swarm: whole frames, streams that can run out, a cap on unread bytes, and a watch on a silent peer.

Every override repairs one stock behaviour of libp2p 0.8.1 and calls the stock method for the rest.
"""

from __future__ import annotations

import logging
import struct
from typing import Any

import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import FLAG_SYN, TYPE_PING, YAMUX_HEADER_FORMAT, Yamux
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX

from core.trouble import first_of
from p2p.libp2p_adapter.limits import (
    ABANDON_S,
    MAX_FRAME_BYTES,
    MAX_UNREAD_CONNECTION_BYTES,
    OPEN_STREAM_S,
    PING_EVERY_S,
    PONG_S,
    UPGRADE_S,
    WRITE_S,
)
from p2p.libp2p_adapter.quick_lane import QuickLane
from p2p.libp2p_adapter.quick_session import QuickSession, quickened
from p2p.libp2p_adapter.traffic import Traffic

ANSWERER_S = 1.5
LOOK_AGAIN_S = 0.05
FIRST_PING_S = 2.0  # soon, so that the time there and back can be told

log = logging.getLogger(__name__)


class Muxers(MuxerMultistream):  # type: ignore[misc]
    """Agrees on Yamux and makes ours. Stock: negotiates among the classes it was given, then always makes its own."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__({YAMUX: Muxer}, int(UPGRADE_S))
        self._traffic = traffic

    async def new_conn(self, conn: Any, peer_id: Any) -> Muxer:
        """A muxed connection over this secured one."""
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        muxed: Muxer = self._annotate_connection(
            Muxer(quickened(conn), peer_id, traffic=self._traffic), conn, protocol
        )
        return muxed


class Muxer(Yamux):  # type: ignore[misc]
    """One connection's streams."""

    def __init__(self, conn: Any, peer_id: Any, *, traffic: Traffic) -> None:
        super().__init__(conn, peer_id)
        self._traffic = traffic
        self.lane = QuickLane(self)
        if isinstance(conn, QuickSession):
            conn.lane = self.lane

    async def start(self) -> None:
        """Run until the connection ends. Stock: an exception here ends the whole host."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.lane.run)
                await super().start()
                nursery.cancel_scope.cancel()
        except* Exception as group:  # noqa: BLE001  one connection's fault ends one, and may come with a cancellation
            log.info("a connection failed: %s", type(first_of(group)).__name__)
            await self._abandon()

    async def open_stream(self) -> Any:
        """A new stream. Stock: waits for ever when 256 are open, and loses a slot when cancelled while opening."""
        if self.stream_backlog_semaphore.value == 0:
            raise MuxedStreamError("too many streams are open to this peer")
        with trio.CancelScope(shield=True, deadline=trio.current_time() + OPEN_STREAM_S):
            return await super().open_stream()
        raise MuxedStreamError("the peer takes no new stream")

    async def _write_frame(self, data: bytes) -> None:
        """Write a whole frame or end the connection. Stock: a cancelled write corrupts it for everyone on it."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + WRITE_S):
            await super()._write_frame(data)
            return
        await self._abandon()
        raise ConnectionClosedError("the peer takes no bytes", transport="yamux")

    async def _read_data_body(self, length: int) -> bytes:
        """The bytes of a data frame. Stock: a peer may fill our memory, whatever window it was given."""
        unread = sum(len(buffer) for buffer in self.stream_buffers.values())
        if length > MAX_FRAME_BYTES or unread + length > MAX_UNREAD_CONNECTION_BYTES:
            log.info("a peer sent more than anyone reads; its connection is closed")
            self._traffic.cut_connections += 1
            await self._abandon()
            raise trio.BrokenResourceError
        return bytes(await super()._read_data_body(length))

    async def _measure_rtt_loop(self) -> None:
        """Ping, and end a connection whose peer does not answer. Stock: never notices a peer that stopped."""
        due = trio.current_time() + FIRST_PING_S
        is_first = True
        while not self.event_shutting_down.is_set():
            with trio.move_on_at(due):
                await self.event_shutting_down.wait()
                return
            if is_first or self._silent_until() <= trio.current_time():
                is_first = False
                if not await self._is_answered():
                    log.info("a peer answers no pings; its connection is closed")
                    self._traffic.cut_connections += 1
                    await self._abandon()
                    return
            due = max(self._silent_until(), trio.current_time() + LOOK_AGAIN_S)

    def _silent_until(self) -> float:
        """When a peer that says nothing from now on is asked. Whoever was dialled leaves the asking to the other."""
        heard_at = getattr(self.secured_conn, "heard_at", 0.0)
        return float(heard_at) + PING_EVERY_S + (0.0 if self.is_initiator_value else ANSWERER_S)

    async def _abandon(self) -> None:
        """End the connection. Shielded: closing it cancels the very tasks that close it, and would leave a zombie."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + ABANDON_S):
            await self._cleanup_on_error()

    async def _is_answered(self) -> bool:
        self._ping_id += 1
        self._ping_event = trio.Event()
        self._ping_sent_time = trio.current_time()
        with trio.move_on_after(PONG_S):
            try:
                await self._write_frame(struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_PING, FLAG_SYN, 0, self._ping_id))
            except Exception:  # noqa: BLE001  whatever broke, the connection is no use
                return False
            await self._ping_event.wait()
            return True
        return False
