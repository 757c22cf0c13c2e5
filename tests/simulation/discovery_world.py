"""Peers that come, find each other and go, on a simulated clock and wire, deciding as the real ones do.

Real: address book, whom to dial and to spare, back-off, what is handed on, when offers are renewed. Simulated: time,
latency, connections, and Kademlia's cost (see discovery_wire).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from core.job import PeerId
from core.membership import OFFER_EVERY_S, OFFER_LIFE_S
from p2p.address_book import AddressBook, Heard, KnownPeer, Source
from p2p.connector import AT_ONCE
from p2p.offer_exchange import MAX_ASKED, MAX_TOLD, PROVIDE_EVERY_S
from p2p.peer_address import group_of, ip_of
from p2p.peer_choice import TARGET_OUTBOUND, Link, next_due, overstayed, spared, worth_dialling
from p2p.peer_exchange import ASK_EVERY_S, ASKED_AT_ONCE, ENOUGH_KNOWN, FIRST_PAUSE_S, WANTED
from p2p.peer_record import LIFE_S
from tests.simulation import discovery_wire as wire

DIAL_TIMEOUT_S = 5.0
CRASH_NOTICED_S = 22.0
CRASHES = 0.2
MEAN_STAY_S = 7_200.0
RETURNS = 0.5
MAX_INBOUND = 300
MODELS = 20
BOOTSTRAPS = 3
SEARCH_GIVEN_UP_S = 60.0


@dataclass
class Peer:
    """One peer of the simulation."""

    name: PeerId
    address: str
    model: int
    joined_at: float
    book: AddressBook
    is_bootstrap: bool = False
    links: dict[PeerId, Link] = field(default_factory=dict)
    offers: dict[PeerId, tuple[int, float]] = field(default_factory=dict)
    dialling: set[PeerId] = field(default_factory=set)
    bytes: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    wake_at: float = 0.0
    is_up: bool = True


@dataclass
class Search:
    """One look for a provider: by whom, for what, since when, and how long it took (None: not found). is_served:
    somebody serves the model."""

    peer: Peer
    model: int
    began: float
    is_served: bool = True
    offers_seen: int = 0
    stale_seen: int = 0
    took_s: float | None = None


class World:
    """A network of so many peers; `run` it as long as wanted."""

    def __init__(self, peers: int, *, seed: int = 7, churn: bool = True) -> None:
        self.now = 1.7e9
        self.began = self.now
        self.size = peers
        self.peers: dict[PeerId, Peer] = {}
        self.searches: list[Search] = []
        self.chance = random.Random(seed)
        self._churn = churn
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._number = count()
        self._weights = [1 / (rank + 1) for rank in range(MODELS)]
        self._records: dict[int, dict[PeerId, float]] = {model: {} for model in range(MODELS)}
        self._bootstraps = [self._make(is_bootstrap=True) for _ in range(BOOTSTRAPS)]
        for peer in self._bootstraps:
            self._start(peer)
        for _ in range(peers):
            self._at(self.chance.uniform(0, 60), self.join)

    def run(self, seconds: float) -> None:
        """Let this much time go by."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, act = heapq.heappop(self._queue)
            act()
        self.now = end

    def up(self) -> list[Peer]:
        """Those who are there, without bootstrap peers."""
        return [peer for peer in self.peers.values() if not peer.is_bootstrap]

    def bytes_sent(self) -> float:
        """By all who are there, so far: what both ends of each exchange sent, counted at each end by half."""
        return sum(peer.bytes for peer in self.up())

    def join(self, book: tuple[KnownPeer, ...] = (), name: PeerId | None = None) -> Peer:
        """Somebody new comes, or one that was here before with its book."""
        peer = self._make(name=name)
        for other in self._bootstraps:
            peer.book.hear(Heard(other.name, (other.address,), Source.NETWORK_FILE), now=self.now)
        peer.book.restore(book, now=self.now)
        self._start(peer)
        return peer

    def kill(self, peer: Peer, *, is_crash: bool = True) -> None:
        """A peer ends; a crash is noticed later."""
        if not peer.is_up:
            return
        peer.is_up = False
        del self.peers[peer.name]
        delay_s = CRASH_NOTICED_S if is_crash else 0.1
        for name in tuple(peer.links):
            self._at(delay_s, lambda name=name: self._lost(name, peer.name))  # type: ignore[misc]

    def kill_bootstraps(self) -> None:
        """All bootstrap peers crash, for good."""
        for peer in self._bootstraps:
            self.kill(peer)

    def look_for_provider(self, peer: Peer) -> Search:
        """A peer looks for somebody that serves a model drawn by its popularity."""
        model = self._model()
        is_served = any(other.model == model and other is not peer for other in self.up())
        search = Search(peer, model, self.now, is_served)
        self.searches.append(search)
        self._search(search)
        return search

    # making and connecting

    def _make(self, *, is_bootstrap: bool = False, name: PeerId | None = None) -> Peer:
        number = next(self._number)
        name = name or PeerId(f"{wire.IDENTITY.peer_id[:40]}{number:012d}")
        near = self.chance.randrange(1 + self.size // 3)
        ip = f"{20 + near % 200}.{near // 200 % 250}.{near % 250}.{self.chance.randrange(250)}"
        address = f"/ip4/{ip}/tcp/{4001 + number % 9}"
        return Peer(name, address, self._model(), self.now, AddressBook(name), is_bootstrap)

    def _model(self) -> int:
        return self.chance.choices(range(MODELS), self._weights)[0]

    def _start(self, peer: Peer) -> None:
        self.peers[peer.name] = peer
        self._connect_some(peer)
        self._at(FIRST_PAUSE_S, lambda: self._exchange(peer))
        if peer.is_bootstrap:
            return
        self._at(3.0, lambda: self._renew(peer))
        self._at(3.0, lambda: self._provide(peer))
        if self._churn:
            self._at(self.chance.expovariate(1 / MEAN_STAY_S), lambda: self._leave(peer))

    def _leave(self, peer: Peer) -> None:
        self.kill(peer, is_crash=self.chance.random() < CRASHES)
        if self.chance.random() < RETURNS:
            self._at(self.chance.uniform(60, 600), lambda: self.join(peer.book.peers(), peer.name) and None)
        else:
            self._at(self.chance.uniform(1, 120), lambda: self.join() and None)

    def _connect_some(self, peer: Peer) -> None:
        if not peer.is_up:
            return
        links = (*peer.links.values(), *(Link(name, "", is_outbound=True) for name in peer.dialling))
        for name in spared(peer.book, links, now=self.now):
            self._drop(peer, name)
        for known in worth_dialling(peer.book, links, now=self.now)[: AT_ONCE - len(peer.dialling)]:
            self._dial(peer, known)
        is_enough = sum(link.is_outbound for link in links) >= TARGET_OUTBOUND
        due = None if is_enough else next_due(peer.book, links, now=self.now)
        pause_s = 30.0 if is_enough or due is None else min(30.0, max(0.5, due - self.now))
        peer.wake_at = self.now + pause_s
        self._at(pause_s, lambda: self._connect_if_due(peer))

    def _connect_if_due(self, peer: Peer) -> None:
        if self.now >= peer.wake_at:
            self._connect_some(peer)

    def _dial(self, peer: Peer, known: KnownPeer) -> None:
        peer.dialling.add(known.peer_id)
        other = self.peers.get(known.peer_id)
        is_there = other is not None and other.address == known.addresses[0] and len(other.links) < MAX_INBOUND
        took_s = 6 * self._latency() if is_there else DIAL_TIMEOUT_S * self.chance.random()
        self._at(took_s, lambda: self._dialled(peer, known))

    def _dialled(self, peer: Peer, known: KnownPeer) -> None:
        peer.dialling.discard(known.peer_id)
        other = self.peers.get(known.peer_id)
        if not peer.is_up:
            return
        if other is None or other.address != known.addresses[0] or len(other.links) >= MAX_INBOUND:
            peer.book.failed(known.peer_id, now=self.now)
            peer.bytes += 200
        else:
            self._linked(peer, other)
        self._connect_some(peer)

    def _linked(self, peer: Peer, other: Peer) -> None:
        peer.book.succeeded(other.name, other.address, now=self.now)
        if other.name in peer.links:
            return
        peer.links[other.name] = Link(other.name, other.address, is_outbound=True, since=self.now)
        other.links[peer.name] = Link(peer.name, peer.address, is_outbound=False, since=self.now)
        for one, two in ((peer, other), (other, peer)):
            one.bytes += (wire.HANDSHAKE + wire.HELLO) / 2
            record = wire.record_of(two.name, two.address, now=self.now, life_s=LIFE_S)
            teller = group_of(ip_of(two.address))
            one.book.hear(Heard(two.name, (two.address,), Source.INBOUND, teller, record), now=self.now)
        self._tell(peer, other)
        if other.is_bootstrap:
            for name in overstayed(other.links.values(), most=MAX_INBOUND, now=self.now):
                self._drop(other, name)
                self._at(0.1, lambda name=name: name in self.peers and self._connect_some(self.peers[name]))  # type: ignore[misc]

    def _drop(self, peer: Peer, name: PeerId) -> None:
        peer.links.pop(name, None)
        if (other := self.peers.get(name)) is not None:
            other.links.pop(peer.name, None)

    def _lost(self, name: PeerId, gone: PeerId) -> None:
        peer = self.peers.get(name)
        if peer is not None and peer.links.pop(gone, None) is not None and gone not in self.peers:
            self._connect_some(peer)

    # telling of peers and offers

    def _exchange(self, peer: Peer) -> None:
        if not peer.is_up:
            return
        is_eager = len(peer.book) < ENOUGH_KNOWN
        links = list(peer.links)
        asked = self.chance.sample(links, min(len(links), ASKED_AT_ONCE if is_eager else 1))
        new = sum(self._ask_for_peers(peer, other) for name in asked if (other := self.peers.get(name)))
        eager = new and is_eager or not links
        peer.pause_s = FIRST_PAUSE_S if eager else min(2 * peer.pause_s, ASK_EVERY_S)
        if new:
            self._connect_some(peer)
        self._at(peer.pause_s * self.chance.uniform(0.75, 1.25), lambda: self._exchange(peer))

    def _ask_for_peers(self, peer: Peer, other: Peer) -> int:
        found = [r for r in other.book.records(now=self.now, alive=set(other.links)) if r.record.peer_id != peer.name]
        records = self.chance.sample(found, min(WANTED - 1, len(found)))
        self._pay(peer, other, wire.ASKED_FOR_PEERS + (1 + len(records)) * wire.ONE_RECORD)
        teller, before = group_of(ip_of(other.address)), len(peer.book)
        for signed in records:
            heard = Heard(PeerId(signed.record.peer_id), signed.record.addresses, Source.EXCHANGE, teller, signed)
            peer.book.hear(heard, now=self.now)
        return len(peer.book) - before

    def _renew(self, peer: Peer) -> None:
        if not peer.is_up:
            return
        for name in tuple(peer.links)[:MAX_TOLD]:
            if (other := self.peers.get(name)) is not None:
                self._tell(peer, other)
        peer.bytes += len(peer.links) * wire.PING * OFFER_EVERY_S / wire.PING_EVERY_S / 2
        self._at(OFFER_EVERY_S, lambda: self._renew(peer))

    def _tell(self, peer: Peer, other: Peer) -> None:
        if not peer.is_bootstrap:
            self._pay(peer, other, wire.TOLD)
            other.offers[peer.name] = (peer.model, self.now + OFFER_LIFE_S)

    def _provide(self, peer: Peer) -> None:
        if not peer.is_up:
            return
        self._records[peer.model][peer.name] = self.now + 2 * PROVIDE_EVERY_S
        peer.bytes += wire.provide_bytes(len(self.peers)) / 2
        self._spread(wire.provide_bytes(len(self.peers)) / 2)
        self._at(PROVIDE_EVERY_S, lambda: self._provide(peer))

    # looking for providers

    def _search(self, search: Search) -> None:
        """One round of OfferExchange.find: own neighbours and the DHT at once; again while nobody was found."""
        peer, model = search.peer, search.model
        if not peer.is_up or self.now - search.began > SEARCH_GIVEN_UP_S:
            return
        neighbours = [self.peers[name] for name in tuple(peer.links)[:MAX_ASKED] if name in self.peers]
        if not neighbours:
            self._at(0.25, lambda: self._search(search))
            return
        answers = [self._asked_for_offers(peer, other, model=model, search=search) for other in neighbours]
        near_s = [2 * self._latency() for found in answers if found]
        far_s = self._from_dht(search) if not near_s else None
        took_s = min(near_s) if near_s else far_s
        if took_s is None:
            self._at(2.0, lambda: self._search(search))
            return
        search.took_s = self.now - search.began + took_s

    def _asked_for_offers(self, peer: Peer, other: Peer, *, model: int, search: Search) -> bool:
        known = {name for name, (kind, until) in other.offers.items() if kind == model and until > self.now}
        known |= {other.name} if other.model == model and not other.is_bootstrap else set()
        known.discard(peer.name)
        alive = {name for name in known if name in self.peers}
        search.offers_seen += len(known)
        search.stale_seen += len(known) - len(alive)
        self._pay(peer, other, wire.ASKED_FOR_OFFERS + len(known) * wire.ONE_OFFER)
        return bool(alive)

    def _from_dht(self, search: Search) -> float | None:
        """How long a lookup takes, and then a dial of somebody alive that it names and a question."""
        rounds, weight = wire.lookup_rounds(len(self.peers)), wire.lookup_bytes(len(self.peers))
        search.peer.bytes += weight / 2
        self._spread(weight / 2)
        named = [name for name, until in self._records[search.model].items() if until > self.now]
        named = self.chance.sample(named, min(MAX_ASKED, len(named)))
        if not any(name in self.peers and name != search.peer.name for name in named):
            return None
        return (rounds + 1) * 2 * self._latency() + 8 * self._latency()

    def _pay(self, one: Peer, two: Peer, weight: float) -> None:
        one.bytes += weight / 2
        two.bytes += weight / 2

    def _spread(self, weight: float) -> None:
        """Whoever answers for the DHT is anybody."""
        names = list(self.peers)
        self.peers[self.chance.choice(names)].bytes += weight

    def _latency(self) -> float:
        """One way, in seconds."""
        return self.chance.uniform(0.01, 0.1)

    def _at(self, delay_s: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._queue, (self.now + delay_s, next(self._order), act))  # type: ignore[arg-type]
