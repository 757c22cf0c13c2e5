"""`python -m tests.bench.hostile_attacker SEED COUNT ADDRESS`: throws malformed inputs at a peer, as fast as it may.

A new identity whenever the peer has cut the last one off. Prints how many inputs of each kind got as far as its socket.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
from collections import Counter, deque
from contextlib import suppress
from typing import Any

import trio

from core.job import PeerId
from p2p.libp2p_adapter.peer_host import PeerHost
from p2p.swarm_errors import PeerUnreachable
from tests.bench.hostile_inputs import Hostile, Way, hostile_inputs
from tests.bench.swarm_peer import NETWORK

HALF_OPEN = 48
PATIENCE_S = 0.25
WORKERS = 6
INPUTS_AN_IDENTITY = 200
NO_ENTRY_S = 0.2
TELL_EVERY = 5_000


class Attacker:
    """Throws inputs at one address. count says what was thrown; refused, how often nobody would open."""

    def __init__(self, address: str, *, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        where, _, peer = address.partition("/p2p/")
        self._address = where
        self._peer = PeerId(peer)
        self._port = int(where.split("/")[4])
        self._held: deque[trio.SocketStream] = deque()
        self.count: Counter[str] = Counter()
        self.refused = 0
        self._told = 0

    async def throw(self, inputs: Any, *, workers: int = WORKERS) -> None:
        """All of these, by several workers at once."""
        chance = random.Random(1)
        async with trio.open_nursery() as nursery:
            for _ in range(workers):
                nursery.start_soon(self._work, inputs, chance)
        for held in self._held:
            await trio.aclose_forcefully(held)

    async def _work(self, inputs: Any, chance: random.Random) -> None:
        waiting = deque[Hostile]()
        while (hostile := waiting.popleft() if waiting else next(inputs, None)) is not None:
            self._tell()
            if hostile.way in (Way.SOCKET, Way.HALF_OPEN):
                await self._by_socket(hostile)
                continue
            waiting.append(hostile)
            await self._as_somebody(inputs, waiting, seed=chance.randbytes(32))

    def _tell(self) -> None:
        while self.count.total() >= self._told + TELL_EVERY:
            self._told += TELL_EVERY
            print(f"{self._told:,} inputs thrown by one attacker", file=sys.stderr, flush=True)

    async def _as_somebody(self, inputs: Any, waiting: deque[Hostile], *, seed: bytes) -> None:
        """Connect under a new name, and go on until that one is cut off or has thrown its share."""
        host = PeerHost(seed, network=NETWORK)
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run, "127.0.0.1", 0)
            try:
                await host.connect(self._peer, (f"{self._address}/p2p/{self._peer}",))
                await self._over(host, inputs, waiting)
            except PeerUnreachable:
                self.refused += 1
                await trio.sleep(NO_ENTRY_S)
            nursery.cancel_scope.cancel()

    async def _over(self, host: PeerHost, inputs: Any, waiting: deque[Hostile]) -> None:
        found = [one for all_of_it in host._host.get_network().connections.values() for one in all_of_it]
        if not found:  # cut off already
            self.refused += 1
            return
        muxed = found[0].muxed_conn
        for _ in range(INPUTS_AN_IDENTITY):
            hostile = waiting.popleft() if waiting else next(inputs, None)
            if hostile is None:
                return
            if hostile.way in (Way.SOCKET, Way.HALF_OPEN):
                await self._by_socket(hostile)
            elif not await self._by_connection(muxed, hostile):
                return

    async def _by_connection(self, muxed: Any, hostile: Hostile) -> bool:
        """Whether the connection still stands after it."""
        self.count[hostile.kind] += 1
        with suppress(Exception), trio.move_on_after(5):  # whatever a peer's defence looks like from here
            if hostile.way is Way.FRAME:
                await muxed._write_frame(hostile.sent)
            else:
                await self._by_stream(muxed, hostile.sent)
        return not muxed.is_closed

    async def _by_stream(self, muxed: Any, sent: bytes) -> None:
        stream = await muxed.open_stream()
        try:
            await stream.write(sent)
            with trio.move_on_after(self._patience_s):
                while await stream.read(10_000):
                    pass
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1), suppress(Exception):
                await stream.reset()

    async def _by_socket(self, hostile: Hostile) -> None:
        self.count[hostile.kind] += 1
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", self._port)
            await stream.send_all(hostile.sent)
        except OSError:
            return
        if hostile.way is Way.SOCKET:
            await stream.aclose()
            return
        self._held.append(stream)
        if len(self._held) > HALF_OPEN:
            await trio.aclose_forcefully(self._held.popleft())


def _yield_to_others() -> None:
    """Attackers would be elsewhere: here they take processor time that nobody else wants."""
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


async def _main(seed: int, count: int, address: str) -> None:
    attacker = Attacker(address)
    peer_id = address.rpartition("/p2p/")[2]
    await attacker.throw(hostile_inputs(seed, count, network=NETWORK, peer_id=peer_id))
    print(json.dumps({"thrown": attacker.count, "refused": attacker.refused}), flush=True)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    _yield_to_others()
    trio.run(_main, int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
