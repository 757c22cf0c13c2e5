"""Finding 17. Stock: every peer that a host has heard of is dialled, unasked."""

from __future__ import annotations

from typing import Any

import trio
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from tests.p2p.findings.stock import a_stock_host, info_of, stock_running
from tests.p2p.hosts import a_host, running


async def heard_of(host: Any, info: Any) -> None:
    host.get_peerstore().add_addrs(info.peer_id, info.addrs, 100)
    await host.get_network().auto_connector.maybe_connect()
    with trio.move_on_after(2):
        while not host.get_network().connections:
            await trio.sleep(0.02)


async def test_stock_dials_whom_it_has_heard_of() -> None:
    one, other = a_stock_host(101), a_stock_host(102)
    async with stock_running(one, other):
        await heard_of(one, info_of(other))
        assert one.get_network().connections


async def test_nobody_is_dialled_unasked() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        info = info_from_p2p_addr(Multiaddr(other.addresses()[0]))
        one._host.get_peerstore().add_addrs(info.peer_id, info.addrs, 100)
        await one._host.get_network().auto_connector.maybe_connect()
        await trio.sleep(0.2)
        assert one.connected() == ()
        assert one.metrics().dials == 0
