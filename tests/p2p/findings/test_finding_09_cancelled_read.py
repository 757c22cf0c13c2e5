"""Finding 9. Stock: a read that is cancelled loses what it had taken out of the buffer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tests.p2p.findings.stock import a_stock_host, info_of, stock_running
from tests.p2p.hosts import ECHO, a_host, joined, running

SENT = b"".join(number.to_bytes(2) for number in range(5_000))


async def read_hastily(read: Callable[[], Awaitable[bytes]], *, most_s: float) -> bytes:
    got = b""
    with trio.move_on_after(most_s):
        while len(got) < len(SENT):
            with trio.move_on_after(0.0005):
                got += await read()
    return got


async def in_pieces(write: Callable[[bytes], Awaitable[None]]) -> None:
    for place in range(0, len(SENT), 50):
        await write(SENT[place : place + 50])


async def write_slowly(muxed: Any, task_status: trio.TaskStatus[None]) -> None:
    """What another stream's write does while the network takes nothing."""
    async with muxed._write_lock:
        task_status.started()
        await trio.sleep_forever()


async def test_stock_cancelled_reads_lose_bytes() -> None:
    """The window frame that follows a read blocks, the read is cancelled there, and its bytes are gone."""
    one, other = a_stock_host(101), a_stock_host(102)
    async with stock_running(one, other):
        await one.connect(info_of(other))
        stream = await one.new_stream(other.get_id(), [ECHO])
        muxed = stream.muxed_conn
        await stream.write(b"precious")
        while not muxed.stream_buffers[stream.muxed_stream.stream_id]:
            await trio.sleep(0.001)
        async with trio.open_nursery() as nursery:
            await nursery.start(write_slowly, muxed)
            with trio.move_on_after(0.05) as hasty:
                await stream.read()
            nursery.cancel_scope.cancel()
        assert hasty.cancelled_caught
        with trio.move_on_after(0.2) as lost:
            await stream.read(8)
        assert lost.cancelled_caught


async def test_cancelled_reads_lose_no_byte() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other) as nursery:
        peer = await joined(one, other, 2)
        stream = await one.open_stream(peer, ECHO)
        nursery.start_soon(in_pieces, stream.write)
        assert await read_hastily(stream.read, most_s=15) == SENT
