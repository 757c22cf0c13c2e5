"""Laws of staying connected, on a clock that jumps: lost connections come back, dead peers cost little."""

from __future__ import annotations

from collections.abc import Callable

import trio
from trio.testing import MockClock

from core.job import PeerId
from p2p.address_book import AddressBook, Heard, Source
from p2p.connector import AT_ONCE, Connector, ConnectorPorts
from p2p.peer_choice import TARGET_OUTBOUND, Link
from p2p.swarm_errors import PeerUnreachable


class Wires:
    """Who answers, whom we are connected to, and how often each was dialled."""

    def __init__(self, names: int) -> None:
        self.book = AddressBook(PeerId("own"))
        self.alive: set[PeerId] = set()
        self.links: dict[PeerId, Link] = {}
        self.dials: list[PeerId] = []
        self.at_once = self.most_at_once = 0
        self.event = trio.Event()
        for number in range(names):
            peer = PeerId(f"p{number}")
            self.alive.add(peer)
            self.book.hear(Heard(peer, (f"/ip4/20.{number}.1.1/tcp/1",), Source.EXCHANGE, "t"), now=self.clock())

    def clock(self) -> float:
        return 1e9 + trio.current_time()

    async def reach(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        self.dials.append(peer)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await trio.sleep(0.2)
        self.at_once -= 1
        if peer not in self.alive:
            self.book.failed(peer, now=self.clock())
            raise PeerUnreachable("Nobody there.")
        self.book.succeeded(peer, addresses[0], now=self.clock())
        self.links[peer] = Link(peer, addresses[0], is_outbound=True, since=self.clock())
        self.change()

    async def let_go(self, peer: PeerId) -> None:
        self.links.pop(peer, None)
        self.change()

    def change(self) -> None:
        self.event.set()
        self.event = trio.Event()

    def connector(self) -> Connector:
        ports = ConnectorPorts(
            links=lambda: tuple(self.links.values()),
            reach=self.reach,
            let_go=self.let_go,
            changed=lambda: self.event,
            clock=self.clock,
        )
        return Connector(self.book, ports)


async def after(wires: Wires, seconds: float, then: Callable[[], None] = lambda: None, more: float = 0.0) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wires.connector().run)
        await trio.sleep(seconds)
        then()
        await trio.sleep(more)
        nursery.cancel_scope.cancel()


async def test_enough_connections_are_made_a_few_at_a_time(autojump_clock: MockClock) -> None:
    wires = Wires(40)
    await after(wires, 5)
    assert len(wires.links) == len(wires.dials) == TARGET_OUTBOUND
    assert wires.most_at_once == AT_ONCE


async def test_what_breaks_is_made_up_for_within_seconds(autojump_clock: MockClock) -> None:
    wires = Wires(40)

    def crash() -> None:
        for peer in tuple(wires.links)[:6]:
            wires.alive.discard(peer)
            del wires.links[peer]
        wires.change()

    await after(wires, 5, crash, more=10)
    assert len(wires.links) == TARGET_OUTBOUND
    assert set(wires.links) <= wires.alive


async def test_peers_that_are_all_dead_are_dialled_ever_more_seldom(autojump_clock: MockClock) -> None:
    wires = Wires(4)
    wires.alive.clear()
    await after(wires, 3_600)
    assert len(wires.dials) <= 4 * 12


async def test_when_the_network_comes_back_everybody_is_tried_at_once(autojump_clock: MockClock) -> None:
    wires = Wires(4)
    everyone = set(wires.alive)
    wires.alive.clear()

    def wake() -> None:
        wires.alive |= everyone
        wires.book.forgive()
        wires.change()

    await after(wires, 40, wake, more=2)
    assert set(wires.links) == everyone
