"""The quick way through Noise and Yamux carries the same bytes in the same order, among ours and with stock libp2p."""

from __future__ import annotations

import hashlib
from random import Random

import trio

from p2p.byte_stream import ByteStream
from p2p.libp2p_adapter.quick_lane import GRANT_WIDE_BYTES, WINDOW_BYTES
from p2p.libp2p_adapter.quick_session import QuickSession
from tests.p2p.findings.stock import a_stock_host, stock_running, where
from tests.p2p.hosts import ECHO, a_host, connection, is_alive, joined, running

SIZES = (1, 5, 70_000, 12, 65_507, 262_064, 3, 16_384, 300_000, 1_000_000, 7)


def parts(seed: int) -> list[bytes]:
    return [Random(seed + place).randbytes(size) for place, size in enumerate(SIZES)]


async def send(stream: ByteStream, sent: list[bytes]) -> None:
    for part in sent:
        await stream.write(part)


async def received(stream: ByteStream, count: int) -> str:
    digest = hashlib.sha256()
    while count:
        got = await stream.read()
        assert got, "the stream ended early"
        digest.update(got)
        count -= len(got)
    return digest.hexdigest()


async def echoed(stream: ByteStream, seed: int) -> None:
    """What is sent comes back as it was, while it is still being sent."""
    sent = parts(seed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, stream, sent)
        got = await received(stream, sum(SIZES))
    assert got == hashlib.sha256(b"".join(sent)).hexdigest()


async def test_small_and_large_writes_keep_their_order_both_ways() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        peer = await joined(one, other, 2)
        async with trio.open_nursery() as nursery:
            for seed in (100, 200, 300):
                nursery.start_soon(echoed, await one.open_stream(peer, ECHO), seed)
        assert isinstance(connection(one).secured_conn, QuickSession)
        assert await is_alive(one, other, 2)


async def test_stock_libp2p_understands_it() -> None:
    one, stock = a_host(1), a_stock_host(101)
    async with running(one), stock_running(stock):
        peer, addresses = where(stock)
        await one.connect(peer, addresses)
        await echoed(await one.open_stream(peer, ECHO), 100)


async def test_a_busy_stream_gets_a_wide_window() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        peer = await joined(one, other, 2)
        stream = await one.open_stream(peer, ECHO)
        await echoed(stream, 100)
        muxed = stream._net.muxed_stream  # type: ignore[attr-defined]
        assert muxed.send_window >= WINDOW_BYTES - GRANT_WIDE_BYTES - (256 << 10)


async def test_a_changed_byte_ends_the_connection() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        peer = await joined(one, other, 2)
        stream = await one.open_stream(peer, ECHO)
        session = connection(one).secured_conn
        sealed = bytearray(session._seal(None, b"anything"))
        sealed[3] ^= 1
        await session._raw.write(len(sealed).to_bytes(2) + sealed)
        with trio.fail_after(5):
            while other.connected():
                await trio.sleep(0.01)
        await stream.reset()

