"""Yamux for many bytes: plain data of our own streams passes stock's loop by, and so do the windows that go with it.

Everything else of Yamux stays with stock: opening, ending, resets, pings, and data for streams that nobody reads here.
Stock takes four locks, two copies and a frame of its own to grant window, for each read; it waits for window by looking
every 10 ms.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import trio
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import (
    DEFAULT_WINDOW_SIZE,
    HEADER_SIZE,
    TYPE_DATA,
    TYPE_WINDOW_UPDATE,
    YAMUX_HEADER_FORMAT,
)

from p2p.libp2p_adapter.limits import MAX_FRAME_BYTES

WINDOW_BYTES = 2 << 20
GRANT_FROM_BYTES, GRANT_WIDE_BYTES = 64 << 10, 512 << 10
# As much of a frame as four Noise messages hold.
FRAME_BYTES = 4 * 65_519 - HEADER_SIZE
LONGEST_FRAME = min(MAX_FRAME_BYTES, FRAME_BYTES)
QUICK_FROM_BYTES = 16 << 10
LOOK_S = 1.0

Take = Callable[[memoryview], None]
_HEADER = struct.Struct(YAMUX_HEADER_FORMAT)


class QuickLane:
    """One connection's. Implements quick_session.Lane. Run it while the connection lives."""

    def __init__(self, muxer: Any) -> None:
        self._muxer = muxer
        self._takers: dict[int, Take] = {}
        self._owed: dict[int, int] = {}
        self._wide: set[int] = set()
        self._windows: dict[int, trio.Event] = {}
        self._due = trio.Event()
        self._take: Take = _ignore

    async def run(self) -> None:
        """Let peers send as much anew as was taken, until cancelled. In a task of its own: a reader that waits until it
        may write, for a peer that does the same, would wait for ever."""
        while True:
            await self._due.wait()
            self._due = trio.Event()
            for stream_id in [found for found, owed in self._owed.items() if owed >= self._worth(found)]:
                count = self._owed[stream_id] + (0 if stream_id in self._wide else WINDOW_BYTES - DEFAULT_WINDOW_SIZE)
                self._owed[stream_id] = 0
                self._wide.add(stream_id)
                if stream_id in self._muxer.streams:
                    await self._muxer._write_frame(_HEADER.pack(0, TYPE_WINDOW_UPDATE, 0, stream_id, count))

    def attach(self, stream_id: int, take: Take) -> None:
        """Hand plain data of this stream to take from now on."""
        self._takers[stream_id] = take
        self._owed[stream_id] = 0

    def detach(self, stream_id: int) -> None:
        """Leave this stream to stock. Twice is once."""
        self._takers.pop(stream_id, None)
        self._owed.pop(stream_id, None)
        self._wide.discard(stream_id)

    def give_back(self, stream_id: int, part: memoryview) -> None:
        """Leave this stream, and what was not taken of it, to stock."""
        self.detach(stream_id)
        self._take = partial(self._put_back, stream_id)
        self._take(part)

    def is_ours(self, header: bytes) -> int | None:
        """See Lane. What comes while stock holds something of a stream is stock's too: it keeps the order."""
        version, kind, flags, stream_id, length = _HEADER.unpack(header)
        if version or flags:
            return None
        if kind == TYPE_DATA and length <= MAX_FRAME_BYTES and stream_id in self._takers:
            if self._muxer.stream_buffers.get(stream_id):
                return None
            self._take = self._takers[stream_id]
            self._owe(stream_id, length)
            return int(length)
        if kind == TYPE_WINDOW_UPDATE and stream_id in self._windows and stream_id in self._muxer.streams:
            self._muxer.streams[stream_id].send_window += length
            self._windows.pop(stream_id).set()
            return 0
        return None

    def take(self, part: memoryview) -> None:
        """See Lane."""
        self._take(part)

    async def write(self, stream: Any, sent: bytes) -> None:
        """All of it, in frames as long as the peer's window lets them be. Raises MuxedStreamError."""
        at = 0
        while at < len(sent):
            if stream.closed or stream.send_closed:
                raise MuxedStreamError("the stream is closed for sending")
            count = min(stream.send_window, LONGEST_FRAME, len(sent) - at)
            if count <= 0:
                await self._window(stream)
                continue
            stream.send_window -= count
            header = _HEADER.pack(0, TYPE_DATA, 0, stream.stream_id, count)
            await self._muxer._write_frame(header + (sent if count == len(sent) else sent[at : at + count]))
            at += count

    def _owe(self, stream_id: int, count: int) -> None:
        self._owed[stream_id] += count
        if self._owed[stream_id] >= self._worth(stream_id):
            self._due.set()

    def _worth(self, stream_id: int) -> int:
        """From how much on it is worth a frame."""
        return GRANT_WIDE_BYTES if stream_id in self._wide else GRANT_FROM_BYTES

    def _put_back(self, stream_id: int, part: memoryview) -> None:
        if stream_id in self._muxer.stream_buffers:
            self._muxer.stream_buffers[stream_id].extend(part)
            self._muxer.stream_events[stream_id].set()

    async def _window(self, stream: Any) -> None:
        """Until the peer lets us send more, or the stream has ended."""
        if stream.stream_id not in self._muxer.streams:
            raise MuxedStreamError("the stream is closed for sending")
        woken = self._windows[stream.stream_id] = trio.Event()
        with trio.move_on_after(LOOK_S):
            await woken.wait()
        self._windows.pop(stream.stream_id, None)


class StreamLane:
    """One stream's part of it."""

    def __init__(self, lane: QuickLane, stream: Any, *, take: Take) -> None:
        self._lane = lane
        self._stream = stream
        lane.attach(stream.stream_id, take)

    def detach(self) -> None:
        """Leave the stream to stock."""
        self._lane.detach(self._stream.stream_id)

    def give_back(self, part: memoryview) -> None:
        """Leave the stream to stock, and this too, which nobody takes here."""
        self._lane.give_back(self._stream.stream_id, part)

    async def write(self, sent: bytes) -> None:
        """See QuickLane."""
        await self._lane.write(self._stream, sent)


def lane_of(net_stream: Any, take: Take) -> StreamLane | None:
    """This stream's lane, where its connection has one and it is there still."""
    muxed = getattr(net_stream, "muxed_stream", None)
    lane = getattr(getattr(muxed, "conn", None), "lane", None)
    if not isinstance(lane, QuickLane) or muxed is None:
        return None
    return StreamLane(lane, muxed, take=take)


def _ignore(_part: memoryview) -> None:
    return
