"""Finding 1. Stock: one protocol line that is no UTF-8, on any stream, ends the whole host."""

from __future__ import annotations

from typing import Any

import trio

from tests.p2p.findings.stock import a_stock_host, connect, dies, stock_running
from tests.p2p.hosts import a_host, is_alive, joined, running

GREETING = b"\x13/multistream/1.0.0\n"
LINES = {
    "no UTF-8": b"\x05\xff\xfe\xfd\xfc\n",
    "no end of line": b"\x04/abc",
    "a length without end": b"\xff" * 12,
    "four gigabytes": b"\xff\xff\xff\xff\x0f" + bytes(4_096),
    "nothing": b"\x00",
    "zeros": bytes(64),
}


async def say(muxed: Any, line: bytes) -> None:
    stream = await muxed.open_stream()
    await stream.write(GREETING + line)
    with trio.move_on_after(0.05):
        await stream.read(1_000)


async def test_stock_a_line_that_is_no_utf8_ends_the_whole_host() -> None:
    victim, attacker = a_stock_host(101), a_stock_host(102)

    async def attack() -> None:
        await say(await connect(attacker, victim), LINES["no UTF-8"])

    async with stock_running(attacker):
        assert await dies(victim, attack)


async def test_a_malformed_line_ends_its_own_stream_only() -> None:
    victim, attacker, other = a_host(1), a_stock_host(), a_host(2)
    async with running(victim, other), stock_running(attacker):
        muxed = await connect(attacker, victim)
        for line in LINES.values():
            await say(muxed, line)
        assert await is_alive(other, victim, 1)
        assert victim.metrics().failed_streams


async def test_a_peer_that_agrees_on_nothing_is_not_listened_to_for_long() -> None:
    victim, attacker = a_host(1), a_stock_host()
    async with running(victim), stock_running(attacker):
        stream = await (await connect(attacker, victim)).open_stream()
        await stream.write(GREETING)
        with trio.fail_after(4):
            while not stream.closed:
                try:
                    await stream.write(b"\x06/none\n" * 50)
                except Exception:  # noqa: BLE001
                    break
                await trio.sleep(0.01)
        assert victim.metrics().refused_streams == 1


async def test_garbage_on_a_socket_ends_that_socket_only() -> None:
    victim, other = a_host(1), a_host(2)
    async with running(victim, other):
        port = int(victim.addresses()[0].split("/")[4])
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, GREETING + b"\x03\xff\xff\n", GREETING, b""):
            raw = await trio.open_tcp_stream("127.0.0.1", port)
            await raw.send_all(garbage)
            await raw.aclose()
        assert await is_alive(other, victim, 1)


async def test_a_handshake_is_bounded() -> None:
    victim, other = a_host(1), a_host(2)
    async with running(victim, other):
        port = int(victim.addresses()[0].split("/")[4])
        raw = await trio.open_tcp_stream("127.0.0.1", port)
        with trio.fail_after(4):
            try:
                await raw.send_all(GREETING + b"\xff\xff\xff\x7f" + bytes(64 << 20))
            except trio.BrokenResourceError:
                pass
        assert victim.metrics().bytes_in < 1 << 20
        await joined(other, victim, 1)
