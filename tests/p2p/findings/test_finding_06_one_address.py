"""Finding 6. Stock: only the first TCP address of a peer is dialled, and then the peer is not dialled for a minute."""

from __future__ import annotations

import pytest
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from tests.p2p.findings.stock import a_stock_host, info_of, stock_running
from tests.p2p.hosts import a_host, identity, is_alive, running

DEAD = "/ip4/127.0.0.1/tcp/1"


async def test_stock_dials_one_address_and_then_gives_up_for_a_minute() -> None:
    one, other = a_stock_host(101), a_stock_host(102)
    async with stock_running(one, other):
        info = info_of(other)
        with pytest.raises(Exception, match="unable to connect"):
            await one.connect(PeerInfo(info.peer_id, [Multiaddr(DEAD), *info.addrs]))
        with pytest.raises(Exception, match="recently failed|unable to connect|negative"):
            await one.connect(info)


async def test_a_peer_is_dialled_at_every_address_it_has() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        odd = ("no address", "/dns4/example.invalid/tcp/1", "/ip4/127.0.0.1/udp/1/quic-v1")
        await one.connect(identity(2).peer_id, (*odd, DEAD, DEAD, *other.addresses()))
        assert await is_alive(one, other, 2)
        assert one.metrics().dials_failed
