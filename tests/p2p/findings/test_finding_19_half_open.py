"""Finding 19. Stock: sockets that say nothing take all slots while their handshake may still come, and nobody gets in.

Newcomers here are other addresses of the loopback network, which Linux has without asking.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from libp2p.network.config import ConnectionConfig

from p2p.libp2p_adapter.limits import ConnectionLimits, NewcomerRate
from tests.p2p.findings.stock import a_stock_host, connect, stock_running
from tests.p2p.hosts import a_host, is_alive, running

SLOTS = 6
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="one loopback address elsewhere")


@asynccontextmanager
async def silent_sockets(port: int, count: int) -> AsyncIterator[list[trio.SocketStream]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                await trio.open_tcp_stream("127.0.0.1", port, local_address="127.0.0.9")
            )
            for _ in range(count)
        ]


async def test_stock_lets_nobody_in_while_silent_sockets_hold_all_slots() -> None:
    config = ConnectionConfig(max_connections=SLOTS, min_connections=0, low_watermark=0, high_watermark=SLOTS)
    victim, guest = a_stock_host(101, connection_config=config), a_stock_host(102)
    async with stock_running(victim, guest):
        port = int(victim.get_addrs()[0].value_for_protocol("tcp"))
        async with silent_sockets(port, SLOTS):
            await trio.sleep(0.1)
            with pytest.raises(Exception, match="unable to connect"), trio.fail_after(5):
                await connect(guest, victim)


async def test_silent_sockets_of_one_address_leave_room_for_others() -> None:
    limits = ConnectionLimits(total=SLOTS, half_open_per_ip=2, loopback_factor=1)
    victim, guest = a_host(1, limits=limits), a_host(2)
    async with running(victim, guest):
        port = int(victim.addresses()[0].split("/")[4])
        async with silent_sockets(port, 3 * SLOTS):
            with trio.fail_after(5):
                while victim.metrics().refused_connections < 3 * SLOTS - 2:
                    await trio.sleep(0.01)
            assert await is_alive(guest, victim, 1)


async def test_a_silent_socket_is_closed_and_its_slot_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = a_host(1)
    monkeypatch.setattr(victim._host.get_network().connection_config, "inbound_upgrade_timeout", 0.2)
    async with running(victim):
        port = int(victim.addresses()[0].split("/")[4])
        async with silent_sockets(port, 3) as silent:
            with trio.fail_after(5):
                for stream in silent:
                    assert await hears_the_end(stream)
                while victim.metrics().refused_handshakes < 3:
                    await trio.sleep(0.01)
                while victim._host.get_network()._inbound.total:
                    await trio.sleep(0.01)


def test_connections_of_one_address_may_not_begin_all_the_time() -> None:
    rate = NewcomerRate(ConnectionLimits())
    assert [rate.admits("192.0.2.1", now=0.0) for _ in range(33)].count(True) == 32
    assert rate.admits("192.0.2.2", now=0.0)
    assert [rate.admits("192.0.2.1", now=5.0) for _ in range(33)].count(True) == 10
    assert [rate.admits("127.0.0.1", now=0.0) for _ in range(600)].count(True) == 512


async def hears_the_end(stream: trio.SocketStream) -> bool:
    """Whatever greeting came before it."""
    try:
        while await stream.receive_some(100):
            pass
    except trio.BrokenResourceError:
        return True
    return True
