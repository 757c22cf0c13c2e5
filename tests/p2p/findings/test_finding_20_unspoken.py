"""Finding 20. Stock: AutoNAT says OK for a dead address, QUIC does 2.8 MB/s, mplex hangs. None of them is spoken here.

The stock faults need another machine or minutes of transfer; what is shown is what stock speaks and we do not.
"""

from __future__ import annotations

import pytest
from libp2p import new_host
from libp2p.host.autonat.autonat import AUTONAT_PROTOCOL_ID, AutoNATService
from multiaddr import Multiaddr

from p2p.libp2p_adapter.dialer import is_direct
from p2p.swarm_errors import PeerUnreachable
from tests.p2p.findings.stock import a_stock_host, connect, stock_running
from tests.p2p.hosts import a_host, identity, is_alive, joined, running

QUIC = "/ip4/127.0.0.1/udp/4001/quic-v1"


async def test_stock_speaks_them_all() -> None:
    host = a_stock_host()
    AutoNATService(host)
    assert AUTONAT_PROTOCOL_ID in host.get_mux().get_protocols()
    assert "/mplex/6.7.0" in host.get_network().upgrader.muxer_multistream.transports
    assert new_host(enable_quic=True).get_network().transport_manager.transport_for_dialing(Multiaddr(QUIC))


async def test_autonat_is_refused() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        peer = await joined(one, other, 2)
        for protocol in (str(AUTONAT_PROTOCOL_ID), "/libp2p/autonat/2/dial-request"):
            with pytest.raises(PeerUnreachable):
                await one.open_stream(peer, protocol)
        assert await is_alive(one, other, 2)


async def test_a_peer_that_speaks_mplex_alone_is_refused() -> None:
    mplex, stock, ours, other = (
        a_stock_host(101, muxer_preference="MPLEX"),
        a_stock_host(102, muxer_preference="MPLEX"),
        a_host(1),
        a_host(2),
    )
    only_mplex(mplex)
    only_mplex(stock)
    async with running(ours, other), stock_running(mplex, stock):
        await connect(mplex, stock)
        with pytest.raises(Exception, match="unable to connect"):
            await connect(mplex, ours)
        assert await is_alive(other, ours, 1)


def only_mplex(host: object) -> None:
    transports = host.get_network().upgrader.muxer_multistream.transports  # type: ignore[attr-defined]
    for name in [name for name in transports if "mplex" not in name]:
        del transports[name]
        del host.get_network().upgrader.muxer_multistream.multiselect.handlers[name]  # type: ignore[attr-defined]


async def test_a_quic_address_is_not_dialled() -> None:
    one = a_host(1)
    assert not is_direct(QUIC)
    async with running(one):
        with pytest.raises(PeerUnreachable):
            await one.connect(identity(2).peer_id, (QUIC,))
        assert one.metrics().dials == 0
