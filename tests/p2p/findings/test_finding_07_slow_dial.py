"""Finding 7. Stock: every dial takes at least 250 ms."""

from __future__ import annotations

import time

from tests.p2p.findings.stock import a_stock_host, connect, stock_running
from tests.p2p.hosts import a_host, identity, joined, running


async def test_stock_waits_a_quarter_of_a_second_after_every_dial() -> None:
    one, other = a_stock_host(101), a_stock_host(102)
    async with stock_running(one, other):
        began = time.perf_counter()
        await connect(one, other)
        assert time.perf_counter() - began > 0.24


async def test_a_dial_ends_with_its_first_connection() -> None:
    """Ours takes 10 to 20 ms; the least of four, so that a busy machine does not matter."""
    took = []
    async with running(one := a_host(1)):
        for number in range(2, 6):
            async with running(other := a_host(number)):
                began = time.perf_counter()
                await joined(other, one, 1)
                took.append(time.perf_counter() - began)
    assert min(took) < 0.2


async def test_two_peers_hold_one_connection() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other) as nursery:
        for _ in range(4):
            nursery.start_soon(joined, one, other, 2)
        await joined(one, other, 2)
        assert one.connected() == (identity(2).peer_id,)
        assert one.metrics().connections == 1
