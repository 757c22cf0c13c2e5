"""This peer in the swarm: who it knows, what it offers, how it finds sellers, and the streams between them.

Owns the host and restarts it when libp2p fails. Knows no libp2p type (the adapter does) and decides nothing about jobs.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import trio

from core.job import PeerId
from core.offer import Offer
from core.trouble import first_of
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.identity import Identity
from p2p.libp2p_adapter.peer_host import PeerHost
from p2p.messages import JOB_PROTOCOL, MAX_ADDRESSES, QUERY_PROTOCOL, Offers, SignedOffer, Tell, offer_bytes
from p2p.offer_book import OfferBook, freshest, offer_fault
from p2p.protocol_error import RemoteProtocolError
from p2p.query_stream import QueryDesk, ask, offers_of
from p2p.row_messages import ROWS_PROTOCOL
from p2p.swarm_errors import PeerUnreachable, PortInUse, SwarmError

FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 30.0
LOOK_AGAIN_S = 60.0
PROVIDE_EVERY_S = 600.0
PROVIDE_S = 30.0
TELL_S = 10.0
MAX_TOLD = 32
MAX_ASKED = 16
LINGER_S = 0.3

log = logging.getLogger(__name__)

ServeStream = Callable[[ByteStream, PeerId], Awaitable[None]]


class Swarm:
    """One peer of one network. Run it in a nursery; everything else works while it runs."""

    def __init__(
        self, identity: Identity, *, port: int, bootstrap: tuple[str, ...], network: str, listen_ip: str = "127.0.0.1"
    ) -> None:
        self._identity = identity
        self._listen = (listen_ip, port)
        self._bootstrap = bootstrap
        self._network = network
        self._host: PeerHost | None = None
        self._serve_job: ServeStream | None = None
        self._serve_rows: ServeStream | None = None
        self._own: dict[str, SignedOffer] = {}
        self._known = OfferBook()
        self._queries = QueryDesk(self._known, self.own_offers, clock=time.time)
        self._told: set[tuple[PeerId, str, int]] = set()
        self._provided_at: dict[str, float] = {}
        self._news = trio.Event()

    @property
    def peer_id(self) -> PeerId:
        """Our id."""
        return self._identity.peer_id

    @property
    def peer_count(self) -> int:
        """How many peers we are connected to."""
        return len(self.peers())

    def peers(self) -> tuple[PeerId, ...]:
        """The peers we are connected to."""
        return self._host.connected() if self._host is not None else ()

    def addresses(self) -> tuple[str, ...]:
        """Where we listen, each with our peer id; empty while the host is down."""
        return self._host.addresses() if self._host is not None else ()

    def serve(self, job: ServeStream, rows: ServeStream | None = None) -> None:
        """Call these with each inbound stream of jobs, and of questions for what was measured. Without them, such
        streams are turned away."""
        self._serve_job, self._serve_rows = job, rows

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and stay joined until cancelled; restarts the host when it fails. Raises PortInUse, SwarmError."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            began = trio.current_time()
            try:
                await self._run_host(task_status)
            except* PortInUse as group:
                raise first_of(group) from None
            except* Exception as group:
                if self._listen[1] == 0:
                    raise SwarmError("The swarm could not start on this computer.") from group
                log.warning("the swarm's host failed and is restarted: %s", _names(group))
            finally:
                self._host = None
            task_status = trio.TASK_STATUS_IGNORED
            backoff_s = FIRST_BACKOFF_S if trio.current_time() - began > MAX_BACKOFF_S else 2 * backoff_s
            await trio.sleep(min(backoff_s, MAX_BACKOFF_S))

    async def announce(self, offer: Offer) -> None:
        """Offer this from now on, or renew it: connected peers are told, and the DHT learns who provides the model."""
        signature = self._identity.sign(offer_bytes(offer))
        self._own[offer.model] = SignedOffer(offer, signature, self.addresses()[:MAX_ADDRESSES])
        self._news.set()

    async def withdraw(self, model: str) -> None:
        """Offer this no longer. Copies elsewhere end with their expiry."""
        self._own.pop(model, None)
        self._provided_at.pop(model, None)

    def own_offers(self) -> OfferBook:
        """What we offer now."""
        book = OfferBook()
        for signed in self._own.values():
            current = msgspec.structs.replace(signed, addresses=self.addresses()[:MAX_ADDRESSES])
            book.add(current, now=time.time())
        return book

    async def find_offers(self, model: str, *, deadline_s: float) -> list[SignedOffer]:
        """Offers of others for this model, checked and newest first a peer; what was found by the deadline."""
        search = _Search(model, self._known.find(model, now=time.time()))
        with trio.move_on_after(deadline_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._search, search)
                await search.first.wait()
                with trio.move_on_after(LINGER_S):
                    await search.done.wait()
                nursery.cancel_scope.cancel()
        return [signed for signed in freshest(search.found) if signed.offer.peer_id != self.peer_id]

    async def open_job(self, peer_id: PeerId, addresses: tuple[str, ...] = ()) -> ByteStream:
        """A job stream to this peer, dialled if need be; whoever gets it must reset it. Raises PeerUnreachable."""
        return await self._open(peer_id, JOB_PROTOCOL, addresses=addresses)

    async def open_rows(self, peer_id: PeerId) -> ByteStream:
        """A stream to ask a connected peer what it measured; whoever gets it must reset it. Raises PeerUnreachable."""
        return await self._open(peer_id, ROWS_PROTOCOL)

    async def _run_host(self, task_status: trio.TaskStatus[None]) -> None:
        host = PeerHost(self._identity.seed, network=self._network)
        host.accept(JOB_PROTOCOL, lambda stream, peer: _accept(self._serve_job, stream, peer=peer))
        host.accept(ROWS_PROTOCOL, lambda stream, peer: _accept(self._serve_rows, stream, peer=peer))
        host.accept(QUERY_PROTOCOL, self._queries.serve)
        self._told.clear()
        self._provided_at.clear()
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run, *self._listen)
            self._host = host
            self._listen = (self._listen[0], self._listen[1] or _port(host.addresses()))
            for address in self._bootstrap:
                nursery.start_soon(self._stay_joined, host, address)
            nursery.start_soon(self._spread_news, host)
            task_status.started()

    async def _stay_joined(self, host: PeerHost, address: str) -> None:
        """Keep connected to one bootstrap peer, with back-off while it is away."""
        peer_id = PeerId(address.rpartition("/p2p/")[2])
        backoff_s = FIRST_BACKOFF_S
        while peer_id != self.peer_id:
            if peer_id in host.connected():
                backoff_s = FIRST_BACKOFF_S
                with trio.move_on_after(LOOK_AGAIN_S):
                    await host.wait_change()
                continue
            try:
                await host.connect(peer_id, (address,))
                self._provided_at.clear()
                self._news.set()
            except PeerUnreachable:
                await trio.sleep(backoff_s * random.uniform(0.75, 1.25))
                backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)

    async def _spread_news(self, host: PeerHost) -> None:
        """Tell peers what we offer when it or they are new, and keep our provider records in the DHT."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._note_changes, host)
            while True:
                with trio.move_on_after(LOOK_AGAIN_S):
                    await self._news.wait()
                self._news = trio.Event()
                await self._tell_all(host)
                for model in tuple(self._own):
                    await self._provide(host, model)

    async def _note_changes(self, host: PeerHost) -> None:
        while True:
            await host.wait_change()
            self._news.set()

    async def _tell_all(self, host: PeerHost) -> None:
        offers = tuple(self.own_offers().find(None, now=time.time()))
        connected = set(host.connected())
        self._told = {entry for entry in self._told if entry[0] in connected}
        with trio.move_on_after(TELL_S):
            async with trio.open_nursery() as nursery:
                for peer_id in tuple(connected)[:MAX_TOLD]:
                    nursery.start_soon(self._tell, peer_id, offers)

    async def _tell(self, peer_id: PeerId, offers: tuple[SignedOffer, ...]) -> None:
        offers = tuple(signed for signed in offers if (peer_id, *_version(signed)) not in self._told)
        if not offers:
            return
        try:
            await ask(await self._open(peer_id, QUERY_PROTOCOL), Tell(offers))
        except (PeerUnreachable, StreamBroken, RemoteProtocolError) as error:
            log.debug("%s was not told of our offers: %s", peer_id, error)
            return
        self._told |= {(peer_id, *_version(signed)) for signed in offers}

    async def _provide(self, host: PeerHost, model: str) -> None:
        now = trio.current_time()
        if now - self._provided_at.get(model, -PROVIDE_EVERY_S) < PROVIDE_EVERY_S or not host.connected():
            return
        with trio.move_on_after(PROVIDE_S):
            if await host.provide(provider_key(self._network, model)):
                self._provided_at[model] = now

    async def _search(self, search: _Search) -> None:
        """Ask those we are connected to, and those whom the DHT names."""
        asked: set[PeerId] = {self.peer_id}
        async with trio.open_nursery() as nursery:

            def ask_soon(peer_id: PeerId, addresses: tuple[str, ...]) -> None:
                if peer_id not in asked and len(asked) <= MAX_ASKED:
                    asked.add(peer_id)
                    nursery.start_soon(partial(self._collect, peer_id, search, addresses=addresses))

            for peer_id in self.peers():
                ask_soon(peer_id, ())
            for peer_id, addresses in await self._providers(search.model):
                ask_soon(peer_id, addresses)
        search.end()

    async def _providers(self, model: str) -> list[tuple[PeerId, tuple[str, ...]]]:
        if self._host is None or not self.peers():
            return []
        return await self._host.find_providers(provider_key(self._network, model))

    async def _collect(self, peer_id: PeerId, search: _Search, *, addresses: tuple[str, ...]) -> None:
        try:
            answer = await ask(await self._open(peer_id, QUERY_PROTOCOL, addresses=addresses), offers_of(search.model))
        except (PeerUnreachable, StreamBroken, RemoteProtocolError) as error:
            log.debug("%s could not be asked for offers: %s", peer_id, error)
            return
        now = time.time()
        offers = answer.offers if isinstance(answer, Offers) else ()
        good = [s for s in offers if s.offer.model == search.model and offer_fault(s, now) is None]
        for signed in good:
            self._known.add(signed, now=now)
        search.add(good)

    async def _open(self, peer_id: PeerId, protocol: str, *, addresses: tuple[str, ...] = ()) -> ByteStream:
        if self._host is None:
            raise PeerUnreachable("This peer is not in the network now.")
        await self._host.connect(peer_id, addresses)
        return await self._host.open_stream(peer_id, protocol)


async def _accept(serve: ServeStream | None, stream: ByteStream, *, peer: PeerId) -> None:
    if serve is None:
        await stream.reset()
        return
    await serve(stream, peer)


def provider_key(network: str, model: str) -> bytes:
    """The DHT key of a model in a network: a SHA-256 multihash."""
    return b"\x12\x20" + hashlib.sha256(f"starling/{network}/{model}".encode()).digest()


class _Search:
    """One look for offers; first is set with the first offer, done when there is nobody left to ask: both are then."""

    def __init__(self, model: str, known: list[SignedOffer]) -> None:
        self.model = model
        self.found: list[SignedOffer] = []
        self.first = trio.Event()
        self.done = trio.Event()
        self.add(known)

    def add(self, offers: list[SignedOffer]) -> None:
        self.found.extend(offers)
        if offers:
            self.first.set()

    def end(self) -> None:
        self.first.set()
        self.done.set()


def _version(signed: SignedOffer) -> tuple[str, int]:
    return signed.offer.model, signed.offer.sequence


def _port(addresses: tuple[str, ...]) -> int:
    return int(addresses[0].split("/")[4])


def _names(group: BaseExceptionGroup[Any]) -> str:
    return ", ".join(_names(e) if isinstance(e, BaseExceptionGroup) else type(e).__name__ for e in group.exceptions)
