"""Laws of the LAN: peers of one swarm hear of each other, those of another network never."""

from __future__ import annotations

import pytest
import trio

from core.job import PeerId
from p2p.identity import Identity
from p2p.lan import Lan, service_type

PEERS = [Identity(bytes([number]) * 32).peer_id for number in (1, 2, 3)]
LOOPBACK = ("127.0.0.1",)


def test_the_name_of_the_service_is_the_networks_own_and_short_enough() -> None:
    assert service_type("a" * 32) != service_type("b" * 32)
    assert len(service_type("a" * 32).split(".")[0]) <= 16  # an underscore and 15 characters (RFC 6763, 7.2)


@pytest.mark.e2e
async def test_two_networks_on_one_lan_never_hear_of_each_other() -> None:
    heard: dict[PeerId, set[PeerId]] = {peer: set() for peer in PEERS}
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for place, swarm in enumerate(("a" * 32, "a" * 32, "b" * 32)):
                peer = PEERS[place]
                lan = Lan(peer, swarm=swarm, hear=lambda other, _, peer=peer: heard[peer].add(other))  # type: ignore[misc]
                nursery.start_soon(lambda lan=lan, port=4_001 + place: lan.run(LOOPBACK, port=port))  # type: ignore[misc]
            while not (heard[PEERS[0]] and heard[PEERS[1]]):
                await trio.sleep(0.05)
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
    assert heard == {PEERS[0]: {PEERS[1]}, PEERS[1]: {PEERS[0]}, PEERS[2]: set()}
