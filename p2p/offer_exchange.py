"""What this peer offers and how it finds sellers: told to neighbours, asked for by name, found in the DHT.

Never floods: an offer goes to whom we are connected to, and to whoever asks. Decides nothing about jobs.
"""

from __future__ import annotations

import hashlib
import logging
from functools import partial

import msgspec
import trio

from core.job import PeerId
from core.offer import Offer
from p2p.address_book import KnownPeer
from p2p.byte_stream import StreamBroken
from p2p.identity import Identity
from p2p.messages import MAX_ADDRESSES, QUERY_PROTOCOL, Offers, SignedOffer, Tell, offer_bytes
from p2p.offer_book import UNSIGNED, OfferBook, freshest, offer_fault
from p2p.peer_choice import source_of, unasked_sources
from p2p.protocol_error import RemoteProtocolError
from p2p.query_stream import QueryDesk, ask, offers_of
from p2p.swarm import Swarm
from p2p.swarm_errors import PeerUnreachable

LOOK_AGAIN_S = 60.0
PROVIDE_EVERY_S = 600.0
PROVIDE_S = 30.0
TELL_S = 10.0
WITHDRAW_S = 2.0
MAX_TOLD = 32
MAX_ASKED = 16
LINGER_S = 0.3

log = logging.getLogger(__name__)


class OfferExchange:
    """The offers of one swarm. Answers questions while the swarm runs; run it too where something is offered."""

    def __init__(self, identity: Identity, swarm: Swarm, *, network: str) -> None:
        self._identity = identity
        self._swarm = swarm
        self._network = network
        self._own: dict[str, SignedOffer] = {}
        self._known = OfferBook()
        self._told: set[tuple[PeerId, str, int, tuple[str, ...]]] = set()
        self._telling: set[PeerId] = set()
        self._provided_at: dict[str, float] = {}
        self._news = trio.Event()
        desk = QueryDesk(self._known, self.own_offers, clock=swarm.now, report=swarm.report)
        swarm.serve(QUERY_PROTOCOL, desk.serve)

    def __len__(self) -> int:
        """How many offers of others are known."""
        return len(self._known)

    async def run(self) -> None:
        """Tell peers what we offer when it or they are new, and keep our provider records, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._note_changes)
            nursery.start_soon(self._keep_provided)
            while True:
                with trio.move_on_after(LOOK_AGAIN_S):
                    await self._news.wait()
                self._news = trio.Event()
                self._tell_all(nursery)

    async def announce(self, offer: Offer) -> None:
        """Offer this from now on, or renew it: connected peers are told, and the DHT learns who provides the model."""
        late_s = self._swarm.skew.correction_s()
        offer = msgspec.structs.replace(
            offer, issued_at=offer.issued_at + late_s, expires_at=offer.expires_at + late_s
        )
        signature = self._identity.sign(offer_bytes(offer))
        self._own[offer.model] = SignedOffer(offer, signature, self._swarm.addresses()[:MAX_ADDRESSES])
        self._news.set()

    async def withdraw(self, model: str) -> None:
        """Offer this no longer, and tell those we are connected to by an offer that expires now. Copies elsewhere end
        with their own expiry. Bounded in time."""
        self._provided_at.pop(model, None)
        if (signed := self._own.pop(model, None)) is None:
            return
        now = self._swarm.now()
        over = msgspec.structs.replace(signed.offer, issued_at=now, expires_at=now, sequence=signed.offer.sequence + 1)
        ended = SignedOffer(over, self._identity.sign(offer_bytes(over)))
        with trio.move_on_after(WITHDRAW_S):
            async with trio.open_nursery() as nursery:
                for peer_id in self._swarm.peers()[:MAX_TOLD]:
                    nursery.start_soon(self._tell, peer_id, (ended,))

    async def withdraw_all(self) -> None:
        """Offer nothing any more."""
        for model in tuple(self._own):
            await self.withdraw(model)

    def own_offers(self) -> OfferBook:
        """What we offer now."""
        book = OfferBook()
        for signed in self._own.values():
            current = msgspec.structs.replace(signed, addresses=self._swarm.addresses()[:MAX_ADDRESSES])
            book.add(current, now=self._swarm.now())
        return book

    async def find(self, model: str, *, deadline_s: float) -> list[SignedOffer]:
        """Offers of others for this model, checked and newest first a peer; what was found by the deadline."""
        search = _Search(model, self._known.find(model, now=self._swarm.now()))
        with trio.move_on_after(deadline_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._search, search)
                await search.first.wait()
                with trio.move_on_after(LINGER_S):
                    await search.done.wait()
                nursery.cancel_scope.cancel()
        return [signed for signed in freshest(search.found) if signed.offer.peer_id != self._identity.peer_id]

    async def _note_changes(self) -> None:
        had_peers, addresses = False, self._swarm.addresses()
        while True:
            has_peers = bool(self._swarm.peers())
            if (has_peers and not had_peers) or addresses != self._swarm.addresses():
                self._provided_at.clear()
            had_peers, addresses = has_peers, self._swarm.addresses()
            self._news.set()
            await self._swarm.wait_change()

    def _tell_all(self, nursery: trio.Nursery) -> None:
        """Each peer by itself: a slow one keeps no other waiting."""
        connected = set(self._swarm.peers())
        self._told = {entry for entry in self._told if entry[0] in connected}
        for peer_id in tuple(connected - self._telling)[:MAX_TOLD]:
            nursery.start_soon(self._tell_in_time, peer_id)

    async def _tell_in_time(self, peer_id: PeerId) -> None:
        """Until there is no news for this peer, or it does not listen."""
        if peer_id in self._telling:
            return
        self._telling.add(peer_id)
        try:
            with trio.move_on_after(TELL_S):
                while await self._tell(peer_id, tuple(self.own_offers().find(None, now=self._swarm.now()))):
                    pass
        finally:
            self._telling.discard(peer_id)

    async def _tell(self, peer_id: PeerId, offers: tuple[SignedOffer, ...]) -> bool:
        """False when there was nothing new to say, or the peer did not listen."""
        offers = tuple(signed for signed in offers if (peer_id, *_version(signed)) not in self._told)
        if not offers:
            return False
        try:
            await ask(await self._swarm.open(peer_id, QUERY_PROTOCOL), Tell(offers))
        except (PeerUnreachable, StreamBroken, RemoteProtocolError) as error:
            log.debug("%s was not told of our offers: %s", peer_id, error)
            return False
        self._told |= {(peer_id, *_version(signed)) for signed in offers}
        return True

    async def _keep_provided(self) -> None:
        """Beside telling neighbours: a record may take long to publish where nodes are away."""
        while True:
            news = self._news
            for model in tuple(self._own):
                await self._provide(model)
            with trio.move_on_after(LOOK_AGAIN_S):
                await news.wait()

    async def _provide(self, model: str) -> None:
        now = trio.current_time()
        is_recent = now - self._provided_at.get(model, -PROVIDE_EVERY_S) < PROVIDE_EVERY_S
        if is_recent or not self._swarm.peers():
            return
        with trio.move_on_after(PROVIDE_S):
            if await self._swarm.provide(provider_key(self._network, model)):
                self._provided_at[model] = now

    async def _search(self, search: _Search) -> None:
        """Ask those we are connected to and those whom the DHT names; with no offer from them, others out of the book
        until two disjoint sources have said that there is none."""
        async with trio.open_nursery() as nursery:
            for peer_id in self._swarm.peers():
                self._ask_soon(nursery, peer_id, search=search)
            key = provider_key(self._network, search.model)
            for peer_id, addresses in await self._swarm.find_providers(key):
                self._ask_soon(nursery, peer_id, search=search, addresses=addresses)
        while not search.found and (others := unasked_sources(self._swarm.book, search.asked, heard=search.sources)):
            async with trio.open_nursery() as nursery:
                for known in others:
                    self._ask_soon(nursery, known.peer_id, search=search, addresses=known.addresses)
        search.end()

    def _ask_soon(
        self, nursery: trio.Nursery, peer_id: PeerId, *, search: _Search, addresses: tuple[str, ...] = ()
    ) -> None:
        if peer_id in search.asked or peer_id == self._identity.peer_id or len(search.asked) >= MAX_ASKED:
            return
        search.asked.add(peer_id)
        nursery.start_soon(partial(self._collect, peer_id, search, addresses=addresses))

    async def _collect(self, peer_id: PeerId, search: _Search, *, addresses: tuple[str, ...]) -> None:
        try:
            stream = await self._swarm.open(peer_id, QUERY_PROTOCOL, addresses=addresses)
            answer = await ask(stream, offers_of(search.model))
        except (PeerUnreachable, StreamBroken, RemoteProtocolError) as error:
            log.debug("%s could not be asked for offers: %s", peer_id, error)
            return
        search.heard_from(self._swarm.book.get(peer_id), peer_id)
        now = self._swarm.now()
        offers = answer.offers if isinstance(answer, Offers) else ()
        others = [s for s in offers if s.offer.model == search.model and s.offer.peer_id != self._identity.peer_id]
        faults = [offer_fault(signed, now) for signed in others]
        if UNSIGNED in faults:
            stream.blame()  # it hands on what it must have checked, or made up
        good = [signed for signed, fault in zip(others, faults, strict=True) if fault is None]
        for signed in good:
            self._known.add(signed, now=now)
        search.add(good)


def provider_key(network: str, model: str) -> bytes:
    """The DHT key of a model in a network: a SHA-256 multihash."""
    return b"\x12\x20" + hashlib.sha256(f"starling/{network}/{model}".encode()).digest()


class _Search:
    """One look for offers; first is set with the first offer, done when there is nobody left to ask: both are then."""

    def __init__(self, model: str, known: list[SignedOffer]) -> None:
        self.model = model
        self.found: list[SignedOffer] = []
        self.asked: set[PeerId] = set()
        self.sources: set[str] = set()
        self.first = trio.Event()
        self.done = trio.Event()
        self.add(known)

    def heard_from(self, known: KnownPeer | None, peer_id: PeerId) -> None:
        self.sources.add(peer_id if known is None else source_of(known))

    def add(self, offers: list[SignedOffer]) -> None:
        self.found.extend(offers)
        if offers:
            self.first.set()

    def end(self) -> None:
        self.first.set()
        self.done.set()


def _version(signed: SignedOffer) -> tuple[str, int, tuple[str, ...]]:
    """What makes it worth telling again: a newer offer, or other addresses, as when a relay was found."""
    return signed.offer.model, signed.offer.sequence, signed.addresses
