"""Finding 15. Stock: a second process listens on the same port, and each newcomer reaches one of the two by chance."""

from __future__ import annotations

import pytest
import trio
from multiaddr import Multiaddr

from p2p.swarm_errors import PortInUse
from tests.p2p.findings.stock import a_stock_host, stock_running
from tests.p2p.hosts import a_host, is_alive, joined, running


async def test_stock_shares_a_port_and_we_name_it() -> None:
    first, second, ours = a_stock_host(101), a_stock_host(102), a_host(1)
    async with stock_running(first):
        port = int(first.get_addrs()[0].value_for_protocol("tcp"))
        async with second.run([Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")]):
            assert second.get_addrs()
        with pytest.raises(PortInUse) as caught:
            await ours.run("127.0.0.1", port)
        assert caught.value.port == port


async def test_a_host_that_is_cancelled_leaves_no_port_and_no_peer_behind() -> None:
    other = a_host(2)
    async with running(other):
        async with running(one := a_host(1)):
            await joined(one, other, 2)
            port = int(one.addresses()[0].split("/")[4])
        with trio.fail_after(2):
            while other.connected():
                await trio.sleep(0.01)
        async with running(other_again := a_host(1)), trio.open_nursery() as nursery:
            await nursery.start(a_host(3).run, "127.0.0.1", port)
            assert await is_alive(other_again, other, 2)
            nursery.cancel_scope.cancel()
