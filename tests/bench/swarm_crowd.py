"""`python -m tests.bench.swarm_crowd FIRST COUNT ADDRESS`: whole peers that connect to one and then keep still.

Prints a line of JSON when all are connected, and one with how many still are for each line it reads.
"""

from __future__ import annotations

import json
import logging
import sys

import trio

from core.job import PeerId
from p2p.identity import Identity
from p2p.libp2p_adapter.limits import ConnectionLimits
from p2p.swarm import Swarm
from p2p.swarm_errors import PeerUnreachable
from tests.bench.swarm_peer import NETWORK

ONE_LINK = ConnectionLimits(total=0, kept_for_dials=1)  # they would find each other in the DHT, and be a mesh
TRIES = 5
AGAIN_S = 1.0


async def _join(swarm: Swarm, address: str) -> None:
    """As a peer does that has heard of another."""
    for _ in range(TRIES):
        try:
            await swarm.reach(PeerId(address.rpartition("/p2p/")[2]), (address,))
            return
        except PeerUnreachable:
            await trio.sleep(AGAIN_S)


async def _main(first: int, count: int, address: str) -> None:
    swarms = []
    async with trio.open_nursery() as nursery:
        for number in range(first, first + count):
            swarm = Swarm(Identity(number.to_bytes(32)), port=0, bootstrap=(), network=NETWORK)
            swarm.target_outbound, swarm.limits = 0, ONE_LINK
            await nursery.start(swarm.run)
            await _join(swarm, address)
            swarms.append(swarm)
        while True:
            print(json.dumps({"connected": sum(bool(swarm.peer_count) for swarm in swarms)}), flush=True)
            if not await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                break
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    trio.run(_main, int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
