"""Finding 8. Stock: a write that is cancelled half-way corrupts the connection for every stream on it."""

from __future__ import annotations

from typing import Any

import trio

from tests.p2p.findings.stock import a_stock_host, info_of, stock_running
from tests.p2p.hosts import ECHO, HOLD, a_host, joined, running, says

DELAYS_S = (0.0, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02)


async def stock_says(stream: Any, text: bytes) -> bytes:
    answer = b""
    with trio.move_on_after(1):
        await stream.write(text)
        while len(answer) < len(text):
            answer += await stream.read(65_536)
    return answer


async def test_stock_a_cancelled_write_breaks_its_neighbours() -> None:
    one, other = a_stock_host(101), a_stock_host(102)
    broken = False
    async with stock_running(one, other):
        await one.connect(info_of(other))
        steady = await one.new_stream(other.get_id(), [ECHO])
        for delay in DELAYS_S * 3:
            try:
                hasty = await one.new_stream(other.get_id(), [HOLD])
                with trio.move_on_after(delay):
                    await hasty.write(b"x" * 250_000)
                broken = await stock_says(steady, b"y" * 5_000) != b"y" * 5_000
            except Exception:  # noqa: BLE001
                broken = True
            if broken:
                break
    assert broken


async def test_a_cancelled_write_leaves_the_connection_whole() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        peer = await joined(one, other, 2)
        steady = await one.open_stream(peer, ECHO)
        for delay in DELAYS_S[:5]:
            stream = await one.open_stream(peer, HOLD)
            with trio.move_on_after(delay):
                await stream.write(b"x" * 500_000)
            await stream.reset()
            assert await says(steady, b"y" * 5_000) == b"y" * 5_000
