"""What the swarm knows of its peers, kept over restarts and shown to the owner: where book, store and journal meet.

Decides nothing of whom to trust or dial, and keeps no address beyond those that peers tell of themselves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

import msgspec
import trio

from core import events as e
from core.job import PeerId
from core.journal import Journal
from core.network import Network
from core.peer_seen import MAX_LISTED, PeerSeen, PeersSeen
from core.settings import Settings
from core.store import Store, StoreError
from p2p.address_book import KnownPeer
from p2p.discovery import Discovery, DiscoveryPorts
from p2p.libp2p_adapter.interfaces import WILDCARDS
from p2p.peer_address import is_of_this_machine
from p2p.peer_choice import Link
from p2p.swarm import Swarm

LIST_EVERY_S = 2.0
CLOCK = "clock"

log = logging.getLogger(__name__)

Score = Callable[[PeerId], float | None]


class BookShelf:
    """Where the address book of one network (its swarm id) lies between runs; nowhere without a store."""

    def __init__(self, store: Store | None, network: str) -> None:
        self._store = store
        self._network = network

    async def load(self) -> tuple[KnownPeer, ...]:
        """What was there; nothing where it cannot be read."""
        if self._store is None:
            return ()
        try:
            bodies = await trio.to_thread.run_sync(self._store.known_peers, self._network)
        except StoreError as error:
            log.warning("the address book of last time is not read: %s", error)
            return ()
        return tuple(known for body in bodies if (known := _decoded(body)) is not None)

    async def save(self, peers: tuple[KnownPeer, ...]) -> None:
        """Put the book there. Where it cannot be written, it is kept in memory only."""
        if self._store is None:
            return
        bodies = {str(known.peer_id): msgspec.json.encode(known).decode() for known in peers}
        try:
            await trio.to_thread.run_sync(self._store.keep_known_peers, self._network, bodies)
        except StoreError as error:
            log.debug("the address book is kept in memory only: %s", error)


class PeerKeeper:
    """One home's peers in one network."""

    def __init__(self, journal: Journal, store: Store, *, settings: Settings, network: Network) -> None:
        self._journal = journal
        self._shelf = BookShelf(store, network.swarm_id)
        self._settings = settings
        self._network = network

    def discovery(self, swarm: Swarm) -> Discovery:
        """How this swarm finds peers; make it before the swarm runs."""
        ports = DiscoveryPorts(load=self._shelf.load, save=self._shelf.save, warn=self._warn)
        ip = self._settings.listen_ip
        is_beyond = ip in WILDCARDS or not is_of_this_machine(f"/ip{6 if ':' in ip else 4}/{ip}/tcp/1")
        finds_on_lan = self._settings.find_on_lan and is_beyond
        return Discovery(swarm, network=self._network.swarm_id, ports=ports, finds_on_lan=finds_on_lan)

    async def tell(self, swarm: Swarm) -> None:
        """Tell the owner whom we know, whenever that changes, until cancelled."""
        told = PeersSeen()
        while True:
            seen = peers_seen(swarm, score=partial(_score, swarm))
            if seen != told:
                told = seen
                self._journal.announce(e.PeersListed(seen))
            with trio.move_on_after(10 * LIST_EVERY_S):
                await swarm.wait_change()
            await trio.sleep(LIST_EVERY_S)

    def _warn(self, sentence: str) -> None:
        self._journal.announce(e.TroubleFound(time.time(), CLOCK, sentence))


def peers_seen(swarm: Swarm, *, score: Score) -> PeersSeen:
    """Whom a swarm knows, the connected first, then those reached last."""
    links = {link.peer_id: link for link in swarm.links()}
    known = {peer.peer_id: peer for peer in swarm.book.peers()}
    connected = [
        _seen(link, known.get(peer_id), score=score(peer_id), rtt_s=swarm.rtt_of(peer_id))
        for peer_id, link in links.items()
    ]
    others = [_heard(peer, score=score(peer_id)) for peer_id, peer in known.items() if peer_id not in links]
    connected.sort(key=lambda peer: (peer.since or 0.0, peer.peer_id))
    others.sort(key=lambda peer: (-(peer.seen_at or 0.0), peer.peer_id))
    return PeersSeen(len(known.keys() | links.keys()), (*connected, *others)[:MAX_LISTED])


def _seen(link: Link, known: KnownPeer | None, *, score: float | None, rtt_s: float | None) -> PeerSeen:
    sources = tuple(source.value for source in known.sources) if known is not None else ()
    return PeerSeen(
        link.peer_id,
        link.address,
        sources or ("inbound",),
        since=link.since,
        is_outbound=link.is_outbound,
        is_relayed=link.is_relayed,
        seen_at=link.since,
        rtt_ms=None if rtt_s is None else round(1000 * rtt_s),
        score=score,
    )


def _heard(known: KnownPeer, *, score: float | None) -> PeerSeen:
    address = known.addresses[0] if known.addresses else ""
    sources = tuple(source.value for source in known.sources)
    return PeerSeen(known.peer_id, address, sources, seen_at=known.success_at or None, score=score)


def _score(swarm: Swarm, peer_id: PeerId) -> float | None:
    standing = swarm.trust.of(peer_id)
    return standing.reputation if standing.at else None


def _decoded(body: str) -> KnownPeer | None:
    try:
        return msgspec.json.decode(body, type=KnownPeer)
    except msgspec.MsgspecError as error:
        log.debug("one peer of the address book is not readable: %s", error)
        return None
