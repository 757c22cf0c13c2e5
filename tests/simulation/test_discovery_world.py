"""Laws of the simulated swarm, in small: everybody is connected, finds a provider, and comes back after a crash."""

from __future__ import annotations

from p2p.peer_choice import TARGET_OUTBOUND
from tests.simulation.discovery_wire import lookup_rounds
from tests.simulation.discovery_world import World


def settled(peers: int) -> World:
    world = World(peers, churn=False)
    world.run(90)
    return world


def test_everybody_gets_connected_and_finds_a_provider() -> None:
    world = settled(24)
    assert all(len(peer.links) >= TARGET_OUTBOUND for peer in world.up())
    searches = [world.look_for_provider(peer) for peer in world.up()]
    world.run(15)
    able = [search for search in searches if search.is_served]
    assert len(able) > 12
    assert all(search.took_s is not None for search in able)


def test_without_bootstrap_peers_and_a_third_of_the_others_all_stay_together() -> None:
    world = settled(24)
    world.kill_bootstraps()
    for peer in world.up()[:8]:
        world.kill(peer)
    world.run(30)
    assert all(sum(name in world.peers for name in peer.links) >= 4 for peer in world.up())


def test_a_lookup_grows_with_the_logarithm() -> None:
    assert [lookup_rounds(peers) for peers in (3, 30, 80, 320, 1_280)] == [1, 1, 2, 4, 6]
