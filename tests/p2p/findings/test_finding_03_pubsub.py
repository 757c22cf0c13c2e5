"""Finding 3. Stock: bytes that are no pubsub RPC kill pubsub or the host. Ours has no pubsub: news are pulled."""

from __future__ import annotations

import pytest
import trio
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

from p2p.swarm_errors import PeerUnreachable
from tests.p2p.findings.stock import a_stock_host, connect, stock_running
from tests.p2p.hosts import a_host, is_alive, joined, running

MESHSUB = "/meshsub/1.1.0"
CALL = b"\x13/multistream/1.0.0\n\x0f/meshsub/1.1.0\n"
GARBAGE = b"\x20" + b"\xff" * 32


async def test_stock_bytes_that_are_no_rpc_end_pubsub() -> None:
    victim, attacker = a_stock_host(101), a_stock_host(102)
    router = GossipSub([MESHSUB], degree=3, degree_low=2, degree_high=4)  # type: ignore[list-item]
    pubsub = Pubsub(victim, router, strict_signing=False)
    with pytest.raises(BaseExceptionGroup):  # noqa: PT012
        async with stock_running(victim, attacker), background_trio_service(pubsub):
            stream = await (await connect(attacker, victim)).open_stream()
            await stream.write(CALL)
            await stream.write(GARBAGE)
            await trio.sleep(5)


async def test_a_pubsub_stream_is_refused_and_harms_nobody() -> None:
    victim, other, attacker = a_host(1), a_host(2), a_stock_host()
    async with running(victim, other), stock_running(attacker):
        peer = await joined(other, victim, 1)
        for protocol in (MESHSUB, "/meshsub/1.2.0", "/floodsub/1.0.0"):
            with pytest.raises(PeerUnreachable):
                await other.open_stream(peer, protocol)
        muxed = await connect(attacker, victim)
        for _ in range(10):
            stream = await muxed.open_stream()
            await stream.write(CALL)
            await stream.write(GARBAGE)
            await stream.reset()
        assert await is_alive(other, victim, 1)
