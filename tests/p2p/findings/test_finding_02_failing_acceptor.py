"""Finding 2. Stock: an exception in whatever serves a stream ends the whole host."""

from __future__ import annotations

from typing import Any

import trio

from p2p.byte_stream import StreamBroken
from tests.p2p.findings.stock import a_stock_host, connect, dies, stock_running
from tests.p2p.hosts import BREAK, ECHO, a_host, connection, is_alive, joined, running

CALL = b"\x13/multistream/1.0.0\n\x0c/test/break\n"


async def fail(stream: Any) -> None:
    raise ZeroDivisionError


async def test_stock_an_exception_in_a_stream_ends_the_whole_host() -> None:
    victim, attacker = a_stock_host(101), a_stock_host(102)
    victim.set_stream_handler(BREAK, fail)

    async def attack() -> None:
        stream = await (await connect(attacker, victim)).open_stream()
        await stream.write(CALL)

    async with stock_running(attacker):
        assert await dies(victim, attack)


async def test_a_stream_whose_acceptor_fails_ends_that_stream_only() -> None:
    victim, other = a_host(1), a_host(2)
    async with running(victim, other):
        peer = await joined(other, victim, 1)
        stream = await other.open_stream(peer, BREAK)
        await stream.write(b"x")
        with trio.fail_after(5):
            try:
                assert await stream.read() == b""
            except StreamBroken:
                pass
        assert victim.metrics().failed_streams == 1
        assert await is_alive(other, victim, 1)


async def test_streams_that_are_reset_at_once_leave_no_zombie() -> None:
    victim, other = a_host(1), a_host(2)
    async with running(victim, other):
        peer = await joined(other, victim, 1)
        for _ in range(40):
            await (await other.open_stream(peer, ECHO)).reset()
        with trio.fail_after(5):
            while victim._host._streams_of or connection(victim).streams:
                await trio.sleep(0.01)
        assert await is_alive(other, victim, 1)
