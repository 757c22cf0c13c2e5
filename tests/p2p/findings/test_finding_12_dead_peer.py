"""Finding 12. Stock: a peer that stopped (SIGSTOP) is never noticed, and a partition after 968 s.

A stopped peer is one whose frames are no longer written, on a clock on which a minute takes a second. The partition's
968 s are the kernel's, so its cause is shown: no TCP_USER_TIMEOUT. The partition itself is an end-to-end test.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2p.libp2p_adapter.peer_host import PeerHost
from tests.p2p.findings.fast_clock import run_on_a_clock
from tests.p2p.findings.stock import a_stock_host, info_of, stock_running
from tests.p2p.hosts import a_host, connection, joined, running

RATE = 40
PROMISED_S = 25.0
BUSY_S = 45.0


def socket_of(muxed: Any) -> Any:
    return muxed.secured_conn.conn.read_writer.read_write_closer.stream.stream.socket


def test_stock_never_notices_a_peer_that_stopped() -> None:
    async def law(clock: MockClock) -> None:
        one, other = a_stock_host(101), a_stock_host(102)
        async with stock_running(one, other, within_s=10 * PROMISED_S):
            await one.connect(info_of(other))
            theirs = other.get_network().connections[one.get_id()][0].muxed_conn
            woken = trio.Event()
            clock.rate = RATE
            theirs._write_frame = lambda sent: woken.wait()
            await trio.sleep(3 * PROMISED_S)
            is_unnoticed = bool(one.get_network().connections)
            clock.rate = 1
            woken.set()
            del theirs._write_frame
            await trio.sleep(0.1)
        assert is_unnoticed

    run_on_a_clock(law)


@pytest.mark.skipif(sys.platform != "linux", reason="an option of Linux")
async def test_stock_leaves_a_partition_to_the_kernel() -> None:
    one, other = a_stock_host(101), a_stock_host(102)
    async with stock_running(one, other):
        await one.connect(info_of(other))
        sock = socket_of(one.get_network().connections[other.get_id()][0].muxed_conn)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="an option of Linux")
async def test_both_ends_of_a_connection_notice_a_dead_network() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        await joined(one, other, 2)
        await trio.sleep(0.05)
        for host in (one, other):
            sock = socket_of(connection(host))
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_a_peer_that_stopped_is_noticed_by_its_silence() -> None:
    async def law(clock: MockClock) -> None:
        one, other = a_host(1), a_host(2)
        async with trio.open_nursery() as nursery:
            for host in (one, other):
                await nursery.start(host.run, "127.0.0.1", 0)
            await joined(one, other, 2)
            woken = trio.Event()
            clock.rate = RATE
            connection(other)._write_frame = lambda sent: woken.wait()
            began = trio.current_time()
            await gone(one)
            took_s = trio.current_time() - began
            clock.rate = 1
            woken.set()
            nursery.cancel_scope.cancel()
        assert took_s < BUSY_S

    run_on_a_clock(law)


async def gone(host: PeerHost) -> None:
    with trio.move_on_after(3 * BUSY_S):
        while host.connected():
            await trio.sleep(0.5)


async def test_a_silent_pause_of_some_seconds_is_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    from p2p.libp2p_adapter import muxer

    monkeypatch.setattr(muxer, "PING_EVERY_S", 0.1)
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        await joined(one, other, 2)
        await trio.sleep(0.5)
        assert one.connected()
        assert other.connected()


async def test_one_end_asks_and_the_other_is_content_to_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from p2p.libp2p_adapter import muxer

    monkeypatch.setattr(muxer, "FIRST_PING_S", 0.01)
    monkeypatch.setattr(muxer, "PING_EVERY_S", 0.1)
    monkeypatch.setattr(muxer, "ANSWERER_S", 30.0)
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        await joined(one, other, 2)
        with trio.fail_after(10):
            while connection(one)._ping_id < 4:
                await trio.sleep(0.02)
        assert connection(other)._ping_id == 1
