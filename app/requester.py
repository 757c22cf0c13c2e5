"""A requester: finds who serves a model, places a job there, pays as the answer comes, tries another peer when it may.

A swarm peer of its own with the home's wallet. Never pays twice: a job is tried again elsewhere only while nothing of
its answer was delivered.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from app.auditor import Audited, Auditor
from app.job_round import JobRound, RoundPorts, Tell
from app.lockfile import HomeLocked, try_lock
from app.money import Money, open_money
from app.node import EngineWords, read_network
from app.own_swarm import own_swarm
from app.payer import WalletPayer
from app.peer_keeper import BookShelf
from app.trust_keeper import TrustKeeper
from core.home import Home
from core.job import JobId, JobRequest, JobState, PeerId
from core.network import Network
from core.settings import SettingsError, load_settings
from core.store import Store
from core.trouble import Trouble
from p2p.byte_stream import ByteStream
from p2p.candidates import Picked, pick
from p2p.job_request import JobOver
from p2p.messages import JOB_PROTOCOL, MAX_ADDRESSES, SignedOffer
from p2p.offer_exchange import OfferExchange
from p2p.swarm import Swarm

ROUNDS = 3
FIND_S = 5.0
AUDITED_SHARE = 0.02


class Extras(msgspec.Struct, frozen=True):
    """The network that is asked; later: runs something beside the jobs, for as long as the requester is open;
    audit_budget: what comparing peers may cost, in smallest units."""

    network: Network
    later: Callable[..., None]
    audit_budget: int = 0


class Requester:
    """One wallet's jobs. Several may run at once."""

    def __init__(self, swarm: Swarm, offers: OfferExchange, *, payer: WalletPayer, extras: Extras) -> None:
        self.network = extras.network
        self._swarm = swarm
        self._offers = offers
        self._payer = payer
        self._draw = secrets.SystemRandom().random
        self._later = extras.later
        self._auditor = Auditor(extras.audit_budget, self._ports(), settle=payer.settle, draw=self._draw)

    async def run(self, request: JobRequest, tell: Tell) -> JobOver:
        """Place a job and follow it to its end, in up to three rounds. Cancelling bills what was delivered."""
        refused: set[PeerId] = set()
        over = JobOver(JobState.DECLINED, f"No peer serves {request.terms.model} now.", retry_after_s=2.0)
        for _ in range(ROUNDS):
            picked = await self._pick(request, refused)
            if not picked.offers:
                break
            place = JobRound(request, picked, ports=self._ports())
            over = await place.run(tell)
            if place.winner is not None:
                await self._payer.settle(request.terms.job_id, over.amount)
            if over.state is not JobState.DECLINED and not _may_try_again(over):
                self._audit_perhaps(request.terms.model)
                break
            refused |= place.refused
            new_id = JobId(f"{request.terms.job_id[:48]}-{secrets.token_hex(4)}")
            request = msgspec.structs.replace(
                request, terms=msgspec.structs.replace(request.terms, job_id=new_id)
            )
        return over

    @property
    def spent(self) -> int:
        """What was signed for all jobs of this requester, at every peer that was tried, in smallest units."""
        return self._payer.spent

    async def audit(self, model: str) -> Audited | None:
        """Ask two peers that sell the same file of a model the same, and compare; None where that can't be done."""
        return await self._auditor.audit(await self._found(model))

    def _audit_perhaps(self, model: str) -> None:
        if self._auditor.left > 0 and self._draw() < AUDITED_SHARE:
            self._later(self.audit, model)

    async def _found(self, model: str) -> list[SignedOffer]:
        """Offers of those who are not banned."""
        found = await self._offers.find(model, deadline_s=FIND_S)
        banned = self._swarm.trust.banned(now=self._swarm.clock())
        return [signed for signed in found if signed.offer.peer_id not in banned]

    async def _pick(self, request: JobRequest, refused: set[PeerId]) -> Picked:
        """A few peers that have not refused the job."""
        found = await self._found(request.terms.model)
        seen = {link.peer_id: link.address for link in self._swarm.links() if link.is_outbound and not link.is_relayed}
        fresh = [_as_seen(signed, seen) for signed in found if signed.offer.peer_id not in refused]
        return pick(fresh, request, known=self._swarm.trust.of, draw=self._draw)

    def _ports(self) -> RoundPorts:
        return RoundPorts(
            open=self._open,
            payer=self._payer,
            trust=self._swarm.trust,
            report=self._swarm.report,
            clock=lambda: self._swarm.clock(),
        )

    async def _open(self, signed: SignedOffer) -> ByteStream:
        return await self._swarm.open(PeerId(signed.offer.peer_id), JOB_PROTOCOL, addresses=signed.addresses)


def _as_seen(signed: SignedOffer, seen: dict[PeerId, str]) -> SignedOffer:
    """The offer with the address where its peer was really reached before those that it claims: neighbours count as
    neighbours whatever they say."""
    address = seen.get(PeerId(signed.offer.peer_id))
    if address is None:
        return signed
    return msgspec.structs.replace(signed, addresses=(address, *signed.addresses)[:MAX_ADDRESSES])


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
        keeper = TrustKeeper(store)
        try:
            money = await trio.to_thread.run_sync(open_money, home, network)
            shelf = BookShelf(store, network.swarm_id)
            async with own_swarm(network, shelf) as (swarm, offers), trio.open_nursery() as nursery:
                swarm.trust = await trio.to_thread.run_sync(keeper.load)
                extras = Extras(network, nursery.start_soon, _audit_budget(home))
                yield Requester(swarm, offers, payer=_payer(money, store), extras=extras)
                nursery.cancel_scope.cancel()
        finally:
            keeper.flush()
            store.close()


def _payer(money: Money, store: Store) -> WalletPayer:
    return WalletPayer(money.wallet, store, chain=money.chain, network=money.network)


def _audit_budget(home: Home) -> int:
    try:
        return load_settings(home.settings.read_bytes()).audit_budget if home.settings.exists() else 0
    except SettingsError as error:
        raise Trouble(str(error), is_final=True) from None
