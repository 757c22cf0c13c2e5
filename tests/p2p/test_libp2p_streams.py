"""Stock faults of libp2p 0.8.1 in streams and connections, repaired: no torn frame, no lost byte, no endless wait."""

from __future__ import annotations

import socket
import struct

import pytest
import trio
from libp2p.stream_muxer.yamux.yamux import TYPE_DATA, YAMUX_HEADER_FORMAT

from p2p.byte_stream import StreamBroken
from p2p.libp2p_adapter import muxer, swarm_stream
from p2p.libp2p_adapter.peer_host import PeerHost
from p2p.swarm_errors import PeerUnreachable
from tests.p2p.hosts import ECHO, HOLD, a_host, connection, is_alive, joined, running, says


async def test_a_cancelled_write_leaves_the_connection_whole() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        peer = await joined(one, other, 2)
        steady = await one.open_stream(peer, ECHO)
        for delay in (0.0, 0.001, 0.003, 0.01):
            stream = await one.open_stream(peer, HOLD)
            with trio.move_on_after(delay):
                await stream.write(b"x" * 500_000)
            await stream.reset()
            assert await says(steady, b"y" * 5_000) == b"y" * 5_000


async def test_cancelled_reads_lose_no_byte() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other) as nursery:
        peer = await joined(one, other, 2)
        stream = await one.open_stream(peer, ECHO)
        sent = b"".join(number.to_bytes(2) for number in range(5_000))

        async def send() -> None:
            for place in range(0, len(sent), 50):
                await stream.write(sent[place : place + 50])

        nursery.start_soon(send)
        got = b""
        while len(got) < len(sent):
            with trio.move_on_after(0.0005):
                got += await stream.read()
        assert got == sent


async def test_a_reader_that_pauses_does_not_stop_the_writer() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        peer = await joined(one, other, 2)
        stream = await one.open_stream(peer, HOLD)
        with trio.fail_after(5):
            await stream.write(b"x" * 3_000_000)
        await stream.reset()


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


async def test_a_peer_that_ignores_its_window_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muxer, "MAX_UNREAD_CONNECTION_BYTES", 200_000)
    victim, attacker, other = a_host(1), a_host(2), a_host(3)
    async with running(victim, attacker, other):
        stream = (await attacker.open_stream(await joined(attacker, victim, 1), HOLD))._net.muxed_stream
        muxed = connection(attacker)
        connection(victim).stream_buffers[stream.stream_id] = bytearray(200_000)
        frame = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, stream.stream_id, 60_000) + bytes(60_000)
        with trio.fail_after(5):
            while victim.connected():
                try:
                    await muxed._write_frame(frame)
                except Exception:  # noqa: BLE001
                    await trio.sleep(0.01)
        assert await is_alive(other, victim, 1)


async def test_both_ends_of_a_connection_notice_a_dead_network() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        await joined(one, other, 2)
        await trio.sleep(0.05)
        for host in (one, other):
            sock = transport(host).socket
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def transport(host: PeerHost) -> trio.SocketStream:
    stream: trio.SocketStream = connection(host).secured_conn.conn.read_writer.read_write_closer.stream.stream
    return stream


async def test_a_stopped_peer_is_noticed_by_its_missing_pong(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = a_host(1), a_host(2)
    monkeypatch.setattr(muxer, "PING_EVERY_S", 0.2)
    monkeypatch.setattr(muxer, "PONG_S", 0.3)
    async with running(one, other):
        await joined(one, other, 2)
        await trio.sleep(0.8)
        assert one.connected()

        async def stopped(data: bytes) -> None:
            await trio.sleep_forever()

        monkeypatch.setattr(connection(other), "_write_frame", stopped)
        with trio.fail_after(5):
            while one.connected():
                await trio.sleep(0.01)


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
        for _ in range(300):
            stream = await one.open_stream(peer, ECHO)
            await stream.reset()
        assert await is_alive(one, other, 2)
