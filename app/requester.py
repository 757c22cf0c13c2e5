"""A requester: finds who serves a model, places a job there, pays as the answer comes, tries another peer when it may.

A swarm peer of its own with the home's wallet. Never pays twice: a job is tried again elsewhere only while nothing of
its answer was delivered.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from app.lockfile import HomeLocked, try_lock
from app.money import Money, open_money
from app.node import EngineWords, read_network
from app.own_swarm import own_swarm
from app.payer import WalletPayer
from app.peer_keeper import BookShelf
from core.home import Home
from core.job import JobId, JobRequest, JobState, PeerId
from core.network import Network
from core.store import Store
from p2p.job_request import JobOver, JobQuoted, JobText, JobUpdate, request_job
from p2p.messages import JOB_PROTOCOL, SignedOffer
from p2p.offer_exchange import OfferExchange
from p2p.peer_score import PeerScores
from p2p.placement import sample
from p2p.swarm import Swarm
from p2p.swarm_errors import PeerUnreachable

ATTEMPTS = 3
FIND_S = 5.0

Tell = Callable[[JobUpdate], Awaitable[None]]


class Requester:
    """One wallet's jobs. Several may run at once."""

    def __init__(self, swarm: Swarm, offers: OfferExchange, *, payer: WalletPayer, network: Network) -> None:
        self.network = network
        self._swarm = swarm
        self._offers = offers
        self._payer = payer
        self._scores = PeerScores()
        self._draw = secrets.SystemRandom().random

    async def run(self, request: JobRequest, tell: Tell) -> JobOver:
        """Place a job and follow it to its end, at up to three peers. Cancelling bills what was delivered."""
        tried: set[str] = set()
        over = JobOver(JobState.DECLINED, f"No peer serves {request.terms.model} now.", retry_after_s=2.0)
        for _ in range(ATTEMPTS):
            offer = await self._pick(request, tried)
            if offer is None:
                break
            tried.add(offer.offer.peer_id)
            over = await self._at(offer, request, tell=tell)
            if over.state is not JobState.DECLINED and not _may_try_again(over):
                break
            new_id = JobId(f"{request.terms.job_id[:48]}-{secrets.token_hex(4)}")
            request = msgspec.structs.replace(
                request, terms=msgspec.structs.replace(request.terms, job_id=new_id)
            )
        return over

    @property
    def spent(self) -> int:
        """What was signed for all jobs of this requester, at every peer that was tried, in smallest units."""
        return self._payer.spent

    async def _pick(self, request: JobRequest, tried: set[str]) -> SignedOffer | None:
        """A peer not tried yet, drawn by capacity and by how it kept its promises."""
        found = await self._offers.find(request.terms.model, deadline_s=FIND_S)
        fresh = {signed.offer.peer_id: signed for signed in found if signed.offer.peer_id not in tried}
        offers = [signed.offer for signed in fresh.values()]
        bid = request.terms.bid_per_mtok
        drawn = sample(offers, reputation=self._scores.of, draw=self._draw, bid_per_mtok=bid, k=1)
        return fresh[drawn[0].peer_id] if drawn else None

    async def _at(self, signed: SignedOffer, request: JobRequest, *, tell: Tell) -> JobOver:
        peer = PeerId(signed.offer.peer_id)
        over = JobOver(JobState.FAILED, "The peer closed the stream.")
        clock = _FirstToken(self._scores, peer)
        try:
            stream = await self._swarm.open(peer, JOB_PROTOCOL, addresses=signed.addresses)
        except PeerUnreachable as error:
            return JobOver(JobState.DECLINED, str(error))
        async with request_job(stream, request, payer=self._payer, peer=peer) as updates:
            async for update in updates:
                clock.see(update)
                if isinstance(update, JobOver):
                    over = update
                await tell(update)
        if over.state is JobState.FAILED:
            self._scores.note_failure(peer)
        await self._payer.settle(request.terms.job_id, over.amount)
        return over


class _FirstToken:
    """Holds a peer to the time that it quoted for the first token."""

    def __init__(self, scores: PeerScores, peer: PeerId) -> None:
        self._scores = scores
        self._peer = peer
        self._quoted_s = 0.0
        self._began = 0.0

    def see(self, update: JobUpdate) -> None:
        if isinstance(update, JobQuoted):
            self._quoted_s, self._began = update.quote.ttft_p90_s, trio.current_time()
        if isinstance(update, JobText) and self._quoted_s > 0:
            measured_s = trio.current_time() - self._began
            self._scores.note(self._peer, measured_s=measured_s, quoted_s=self._quoted_s)
            self._quoted_s = 0.0


def _may_try_again(over: JobOver) -> bool:
    return over.state is JobState.FAILED and over.usage.completion_tokens == 0


@asynccontextmanager
async def open_requester(home: Home, network_file: Path | None) -> AsyncIterator[Requester]:
    """A requester for the length of the block. Raises Trouble, ChainError and the errors of a home's files."""
    home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home.run / "requester.lock").open("a+", encoding="utf-8") as lock:
        if not try_lock(lock):
            raise HomeLocked(f"Another requester runs in {home.folder}. Wait for it, or use another --home.")
        network = read_network(EngineWords(home=home, network=network_file))
        store = Store(home.database)
        try:
            money = await trio.to_thread.run_sync(open_money, home, network)
            async with own_swarm(network, BookShelf(store, network.swarm_id)) as (swarm, offers):
                yield Requester(swarm, offers, payer=_payer(money, store), network=network)
        finally:
            store.close()


def _payer(money: Money, store: Store) -> WalletPayer:
    return WalletPayer(money.wallet, store, chain=money.chain, network=money.network)
