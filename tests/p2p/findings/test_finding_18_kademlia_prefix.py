"""Finding 18. Stock: KadDHT(protocol_prefix=) is not heeded; every network of ours would be the public one."""

from __future__ import annotations

from libp2p.kad_dht.kad_dht import DHTMode, KadDHT

from tests.p2p.findings.stock import a_stock_host
from tests.p2p.hosts import a_host, identity, joined, running

PUBLIC = "/ipfs/kad/1.0.0"
KEY = b"\x12\x20" + b"k" * 32


def test_stock_joins_the_public_network_whatever_it_is_told() -> None:
    host = a_stock_host()
    KadDHT(host, DHTMode.SERVER, protocol_prefix="/starling")  # type: ignore[arg-type]
    assert PUBLIC in host.get_mux().get_protocols()


async def test_two_networks_never_share_a_record() -> None:
    one, other, stranger = a_host(1, network="a"), a_host(2, network="a"), a_host(3, network="b")
    async with running(one, other, stranger):
        await joined(one, other, 2)
        await joined(stranger, other, 2)
        assert await one.provide(KEY)
        assert [peer for peer, _ in await other.find_providers(KEY)] == [identity(1).peer_id]
        assert await stranger.find_providers(KEY) == []
        assert PUBLIC not in one._host.get_mux().get_protocols()
