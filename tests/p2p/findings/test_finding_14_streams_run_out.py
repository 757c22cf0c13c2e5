"""Finding 14. Stock: opening a stream blocks for ever once 256 are open."""

from __future__ import annotations

import pytest
import trio

from p2p.swarm_errors import PeerUnreachable
from tests.p2p.findings.stock import a_stock_host, info_of, stock_running
from tests.p2p.hosts import ECHO, a_host, connection, is_alive, joined, running


async def test_stock_waits_for_ever_when_no_stream_is_left() -> None:
    one, other = a_stock_host(101), a_stock_host(102)
    async with stock_running(one, other):
        await one.connect(info_of(other))
        muxed = one.get_network().connections[other.get_id()][0].muxed_conn
        while muxed.stream_backlog_semaphore.value:
            muxed.stream_backlog_semaphore.acquire_nowait()
        with trio.move_on_after(0.3) as waiting:
            await muxed.open_stream()
        assert waiting.cancelled_caught


async def test_open_stream_fails_at_once_when_none_is_left() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        peer = await joined(one, other, 2)
        muxed = connection(one)
        while muxed.stream_backlog_semaphore.value:
            muxed.stream_backlog_semaphore.acquire_nowait()
        with trio.fail_after(2), pytest.raises(PeerUnreachable):
            await one.open_stream(peer, ECHO)


async def test_streams_that_are_let_go_can_be_opened_without_end() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        peer = await joined(one, other, 2)
        for _ in range(226):
            connection(one).stream_backlog_semaphore.acquire_nowait()
        for _ in range(60):
            stream = await one.open_stream(peer, ECHO)
            await stream.reset()
        assert await is_alive(one, other, 2)
        assert len(connection(one).streams) < 5


async def test_one_peer_has_so_many_streams_and_no_more() -> None:
    one, other, third = a_host(1), a_host(2), a_host(3)
    async with running(one, other, third):
        peer = await joined(one, other, 2)
        opened = []
        for _ in range(40):
            try:
                opened.append(await one.open_stream(peer, "/test/hold"))
            except PeerUnreachable:
                break
        assert len(opened) <= 32
        assert other.metrics().refused_streams
        assert await is_alive(third, other, 2)
