"""Finding 4. Stock: inbound slots are never released; once all were used, every newcomer is refused."""

from __future__ import annotations

from typing import Any

import trio
from libp2p.network.config import ConnectionConfig

from p2p.libp2p_adapter.limits import ConnectionLimits, InboundCount
from p2p.libp2p_adapter.tcp import WholeWrites
from p2p.libp2p_adapter.traffic import Traffic
from tests.p2p.findings.stock import a_stock_host, connect, stock_running
from tests.p2p.hosts import a_host, is_alive, running

SLOTS = 2


async def is_let_in(guest: Any, victim: Any) -> bool:
    try:
        with trio.fail_after(2):
            await connect(guest, victim)
    except Exception:  # noqa: BLE001
        return False
    return True


async def test_stock_refuses_newcomers_once_all_slots_were_used() -> None:
    """Of the limit's slots each guest uses one or more, and none comes back: the last guests find an idle host shut."""
    config = ConnectionConfig(max_connections=SLOTS, min_connections=0, low_watermark=0, high_watermark=SLOTS)
    victim = a_stock_host(101, connection_config=config)
    welcome = []
    async with stock_running(victim):
        for number in range(1, SLOTS + 2):
            guest = a_stock_host(number)
            async with stock_running(guest):
                welcome.append(await is_let_in(guest, victim))
        assert welcome[0]
        assert not any(welcome[SLOTS:])


async def test_slots_are_released_when_a_connection_ends() -> None:
    victim = a_host(1, limits=ConnectionLimits(total=2))
    async with running(victim):
        for number in range(2, 8):
            async with running(guest := a_host(number)):
                assert await is_alive(guest, victim, 1)
            with trio.fail_after(5):
                while victim._host.get_network()._inbound.total or victim.connected():
                    await trio.sleep(0.01)


async def test_strangers_who_take_all_slots_do_not_cut_us_off() -> None:
    victim, other = a_host(1, limits=ConnectionLimits(total=1)), a_host(2)
    async with running(victim, other, guest := a_host(3)):
        assert await is_alive(guest, victim, 1)
        assert await is_alive(victim, other, 2)


def test_one_address_cannot_take_all_slots() -> None:
    count = InboundCount(ConnectionLimits(total=10, per_ip=4, half_open_per_ip=2))
    assert [count.take("192.0.2.1") for _ in range(3)] == [True, True, False]
    count.established("192.0.2.1")
    count.established("192.0.2.1")
    assert [count.take("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert count.take("192.0.2.2")
    for _ in range(4):
        count.release("192.0.2.1")
    count.established("192.0.2.1")
    assert count.take("192.0.2.1")
    assert sum(count.take("127.0.0.1") for _ in range(20)) == 8


def test_one_network_of_ipv6_cannot_take_all_slots() -> None:
    count = InboundCount(ConnectionLimits(total=10, per_ip=4, half_open_per_ip=2))
    assert [count.take(f"2001:db8::{number}") for number in range(3)] == [True, True, False]
    assert count.take("2001:db8:0:1::1")
    assert count.take("::ffff:192.0.2.1")
    assert count.take("192.0.2.1")
    assert not count.take("192.0.2.1")
    count.established("2001:db8::1")
    assert count.take("2001:db8::9")


async def test_an_ipv6_peer_has_an_address() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="::1")
    async with await trio.open_tcp_stream("::1", listener.socket.getsockname()[1]) as guest:
        accepted = WholeWrites(await listener.accept(), Traffic())
        assert accepted.get_remote_address() == guest.socket.getsockname()[:2]
        await accepted.close()
    await listener.aclose()
