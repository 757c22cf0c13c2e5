"""Some hundred malformed inputs of every kind against one whole peer; the benchmark `hostile` throws 100,000."""

from __future__ import annotations

from collections import Counter

import trio

from tests.bench.hostile_attacker import Attacker
from tests.bench.hostile_inputs import WEIGHTS, hostile_inputs
from tests.bench.swarm_jobs import Requester, Timed
from tests.bench.swarm_peer import NETWORK, BenchPeer
from tests.p2p.swarms import until

SEED = 7
INPUTS = 120


def test_the_same_seed_gives_the_same_inputs_of_every_kind() -> None:
    first, again = (list(hostile_inputs(SEED, 500, network=NETWORK, peer_id="x")) for _ in range(2))
    assert [(h.way, h.kind) for h in first] == [(h.way, h.kind) for h in again]
    assert set(Counter(h.kind for h in first)) == set(WEIGHTS)


async def test_malformed_inputs_leave_a_peer_that_serves_others() -> None:
    peer, timed = BenchPeer(), Timed()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(peer.run)
            (address, *_) = peer.swarm.addresses()
            honest = Requester(5, address)
            await nursery.start(honest.swarm.run)
            await honest.ask(timed)
            attacker = Attacker(address, patience_s=0.01)
            inputs = hostile_inputs(SEED, INPUTS, network=NETWORK, peer_id=peer.swarm.peer_id)
            await attacker.throw(inputs)
            for _ in range(3):
                await honest.ask(timed)
            await until(lambda: not peer.swarm._host or peer.swarm._host._unread.total < 1 << 16)
            metrics = peer.swarm.metrics()
            nursery.cancel_scope.cancel()
    assert attacker.count.total() == INPUTS
    assert timed.failed == 0, timed.reasons
    assert metrics.service_restarts == 0
    assert metrics.failed_streams + metrics.refused_streams + metrics.refused_dht_queries
    assert metrics.refused_handshakes
