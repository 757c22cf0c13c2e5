"""Finding 11. Stock: the receive window is not enforced; a peer may fill our memory."""

from __future__ import annotations

import struct
from typing import Any

import pytest
import trio
from libp2p.stream_muxer.yamux.yamux import TYPE_DATA, YAMUX_HEADER_FORMAT

from p2p.byte_stream import ByteStream, StreamBroken
from p2p.libp2p_adapter import limits, muxer, swarm_stream
from p2p.libp2p_adapter.limits import UnreadBytes
from tests.p2p.findings.stock import a_stock_host, info_of, stock_running
from tests.p2p.hosts import HOLD, a_host, connection, is_alive, joined, running

WINDOW = 256 << 10
FRAME = 60_000


def frame(stream_id: int, size: int = FRAME) -> bytes:
    return struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, stream_id, size) + bytes(size)


async def test_stock_keeps_what_comes_beyond_the_window() -> None:
    one, other = a_stock_host(101), a_stock_host(102)
    async with stock_running(one, other):
        await one.connect(info_of(other))
        stream = await one.new_stream(other.get_id(), [HOLD])
        for _ in range(50):
            await stream.muxed_conn._write_frame(frame(stream.muxed_stream.stream_id))
        await trio.sleep(0.2)
        kept = max(map(len, other.get_network().connections[one.get_id()][0].muxed_conn.stream_buffers.values()))
        assert kept > 4 * WINDOW


async def pushed_out(victim: Any, muxed: Any, frame: bytes) -> None:
    """Until the victim has closed the connection over which these frames come."""
    with trio.fail_after(5):
        while victim.connected():
            try:
                await muxed._write_frame(frame)
            except Exception:  # noqa: BLE001
                await trio.sleep(0.01)


async def test_a_peer_that_ignores_its_window_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muxer, "MAX_UNREAD_CONNECTION_BYTES", 200_000)
    victim, attacker, other = a_host(1), a_host(2), a_host(3)
    async with running(victim, attacker, other):
        stream = (await attacker.open_stream(await joined(attacker, victim, 1), HOLD))._net.muxed_stream  # type: ignore[attr-defined]
        connection(victim).stream_buffers[stream.stream_id] = bytearray(200_000)
        await pushed_out(victim, connection(attacker), frame(stream.stream_id))
        assert victim.metrics().cut_connections == 1
        assert await is_alive(other, victim, 1)


async def test_a_frame_of_megabytes_ends_its_connection() -> None:
    victim, attacker, other = a_host(1), a_host(2), a_host(3)
    async with running(victim, attacker, other):
        stream = (await attacker.open_stream(await joined(attacker, victim, 1), HOLD))._net.muxed_stream  # type: ignore[attr-defined]
        header = frame(stream.stream_id, limits.MAX_FRAME_BYTES + 1)[:12]
        await pushed_out(victim, connection(attacker), header)
        assert await is_alive(other, victim, 1)


async def test_a_stream_that_nobody_reads_is_cut_at_its_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm_stream, "MAX_UNREAD_STREAM_BYTES", 100_000)
    victim, attacker = a_host(1), a_host(2)
    async with running(victim, attacker):
        peer = await joined(attacker, victim, 1)
        stream = await attacker.open_stream(peer, HOLD)
        with pytest.raises(StreamBroken):  # noqa: PT012
            for _ in range(100):
                await stream.write(b"x" * 50_000)
                await trio.sleep(0.01)
        assert await is_alive(attacker, victim, 1)


async def test_many_streams_of_a_peer_share_one_cap() -> None:
    victim, attacker = a_host(1), a_host(2)
    victim._unread = UnreadBytes(per_peer=150_000)
    async with running(victim, attacker):
        peer = await joined(attacker, victim, 1)
        streams = [await attacker.open_stream(peer, HOLD) for _ in range(4)]
        for stream in streams:
            await stream.write(b"x" * 50_000)
        assert await is_cut(streams[3])
        assert 0 < victim._unread.total <= 150_000
        for stream in streams:
            await stream.reset()
        with trio.fail_after(5):
            while victim._unread.total:
                await trio.sleep(0.01)


async def is_cut(stream: ByteStream) -> bool:
    with trio.fail_after(5):
        try:
            return await stream.read() == b""
        except StreamBroken:
            return True


def test_all_peers_together_have_a_cap_too() -> None:
    unread = UnreadBytes(per_peer=10, total=15)
    assert unread.take("a", 10)
    assert not unread.take("a", 1)
    assert not unread.take("b", 6)
    unread.release("a", 10)
    assert unread.take("b", 6)
    assert unread.total == 6
