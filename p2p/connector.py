"""Keeps a peer connected: dials out of the address book until enough good connections stand, and again when they end.

Decides nothing of whom (peer_choice does). Never raises for what a peer does.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec
import trio

from core.job import PeerId
from p2p.address_book import AddressBook, KnownPeer
from p2p.peer_choice import TARGET_OUTBOUND, Link, next_due, spared, worth_dialling
from p2p.swarm_errors import PeerUnreachable

AT_ONCE = 4
LEAST_PAUSE_S = 0.05
LOOK_AGAIN_S = 30.0

log = logging.getLogger(__name__)


class ConnectorPorts(msgspec.Struct, frozen=True):
    """links: every connection now; reach: connect to a peer or raise PeerUnreachable; let_go: close the connection to
    one; changed: an event that is set when a connection comes or goes; clock: seconds since the epoch."""

    links: Callable[[], tuple[Link, ...]]
    reach: Callable[[PeerId, tuple[str, ...]], Awaitable[None]]
    let_go: Callable[[PeerId], Awaitable[None]]
    changed: Callable[[], trio.Event]
    clock: Callable[[], float]


class Connector:
    """One stay of one peer. target: how many connections that we dialled should stand."""

    def __init__(self, book: AddressBook, ports: ConnectorPorts, *, target: int = TARGET_OUTBOUND) -> None:
        self._book = book
        self._ports = ports
        self._target = target
        self._dialling: dict[PeerId, Link] = {}
        self._ended = trio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                changed = self._ports.changed()
                self._ended = trio.Event()
                self._dial_some(nursery)
                with trio.move_on_after(self._pause_s()):
                    await _any_of(changed, self._ended)

    def _dial_some(self, nursery: trio.Nursery) -> None:
        now, links = self._ports.clock(), self._ports.links()
        for peer_id in spared(self._book, links, now=now, target=self._target):
            nursery.start_soon(self._ports.let_go, peer_id)
        for known in worth_dialling(self._book, self._all(links), now=now, target=self._target):
            if len(self._dialling) >= AT_ONCE:
                return
            self._dialling[known.peer_id] = Link(known.peer_id, known.addresses[0], is_outbound=True)
            nursery.start_soon(self._dial, known)

    async def _dial(self, known: KnownPeer) -> None:
        try:
            await self._ports.reach(known.peer_id, known.addresses)
        except PeerUnreachable as error:
            log.debug("%s is not reached: %s", known.peer_id, error)
        finally:
            self._dialling.pop(known.peer_id, None)
            self._ended.set()

    def _pause_s(self) -> float:
        """Until somebody may be dialled again, if anybody is missing."""
        links, now = self._all(self._ports.links()), self._ports.clock()
        if sum(link.is_outbound for link in links) >= self._target:
            return LOOK_AGAIN_S
        due = next_due(self._book, links, now=now)
        return LOOK_AGAIN_S if due is None else min(LOOK_AGAIN_S, max(LEAST_PAUSE_S, due - now))

    def _all(self, links: tuple[Link, ...]) -> tuple[Link, ...]:
        return (*links, *self._dialling.values())


async def _any_of(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)
