"""Finding 16. Stock: who listens on 0.0.0.0 tells others to dial 0.0.0.0."""

from __future__ import annotations

import trio
from multiaddr import Multiaddr

from p2p.libp2p_adapter.interfaces import listen_addresses
from tests.p2p.findings.stock import a_stock_host
from tests.p2p.hosts import a_host


async def test_stock_tells_others_to_dial_nowhere() -> None:
    host = a_stock_host()
    async with host.run([Multiaddr("/ip4/0.0.0.0/tcp/0")]):
        assert any("/0.0.0.0/" in str(address) for address in host.get_addrs())


async def test_a_wildcard_listens_where_others_can_dial() -> None:
    host = a_host(1)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run, "0.0.0.0", 0)
            assert host.addresses()
            assert not any("/0.0.0.0/" in address for address in host.addresses())
            nursery.cancel_scope.cancel()


def test_one_address_stays_what_it_is() -> None:
    assert listen_addresses("192.0.2.7") == ["192.0.2.7"]
