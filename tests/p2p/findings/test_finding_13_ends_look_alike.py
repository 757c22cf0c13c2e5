"""Finding 13. Stock: a killed peer, a reset and a polite close all look like the end of the stream.

Ours: an answer has a last frame; an end without it is a failure (tests/p2p/test_job_stream.py has the job's own laws).
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
import trio

from core.framing import encode_frame
from core.job import PeerId
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.messages import Pong
from p2p.one_message import receive_message
from tests.p2p.findings.stock import a_stock_host, info_of, stock_running
from tests.p2p.hosts import a_host, joined, running

HALF = "/test/half"
WHOLE = "/test/whole"


def cut(muxed: Any) -> None:
    """What the kernel does to the socket of a killed process."""
    sock = muxed.secured_conn.conn.read_writer.read_write_closer.stream.stream.socket
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
    sock.close()


async def seen_by_reader(end: Any) -> str:
    one, other = a_stock_host(101), a_stock_host(102)
    other.set_stream_handler(HALF, end)
    async with stock_running(one, other):
        await one.connect(info_of(other))
        stream = await one.new_stream(other.get_id(), [HALF])
        await stream.write(b"x")
        with trio.move_on_after(3):
            try:
                return "end" if not await stream.read(100) else "bytes"
            except Exception as error:  # noqa: BLE001
                return type(error).__name__
        return "nothing"


async def close(stream: Any) -> None:
    await stream.read(1)
    await stream.close()


async def kill(stream: Any) -> None:
    await stream.read(1)
    cut(stream.muxed_conn)


async def test_stock_a_killed_peer_looks_like_one_that_is_done() -> None:
    assert await seen_by_reader(close) == await seen_by_reader(kill) == "StreamEOF"


async def half(stream: ByteStream, peer: PeerId) -> None:
    await stream.write(encode_frame(Pong(1))[:-2])
    await stream.close()


async def whole(stream: ByteStream, peer: PeerId) -> None:
    await stream.write(encode_frame(Pong(1)))
    await stream.close()


async def test_an_end_without_the_last_frame_is_a_failure() -> None:
    one, other = a_host(1), a_host(2)
    other.accept(HALF, half)
    other.accept(WHOLE, whole)
    async with running(one, other):
        peer = await joined(one, other, 2)
        stream = await one.open_stream(peer, WHOLE)
        assert await receive_message(stream, Pong, most=100, within_s=5) == Pong(1)
        stream = await one.open_stream(peer, HALF)
        with pytest.raises(StreamBroken):
            await receive_message(stream, Pong, most=100, within_s=5)
