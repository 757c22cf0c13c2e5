"""The engine's way into the swarm: libp2p streams for its desk, its offer announced and kept fresh.

Translates what can go wrong into one sentence. Decides nothing about jobs.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from app.peer_keeper import PeerKeeper
from app.shared_models import SharedModels
from app.shared_rows import SharedRows
from app.trust_keeper import TrustKeeper
from core.home import Home
from core.job_desk import JobDesk
from core.membership import OFFER_EVERY_S, Joined
from core.network import Network
from core.offer import Offer
from core.payments.voucher import EscrowDomain
from core.settings import Settings
from core.trouble import Trouble, first_of
from p2p.browser_port import BrowserPort
from p2p.identity import Identity, IdentityUnusable
from p2p.job_sales import JobSales, SalesPorts
from p2p.messages import JOB_PROTOCOL
from p2p.model_messages import MODEL_PROTOCOL
from p2p.offer_exchange import OfferExchange
from p2p.relay_seats import keep_reachable
from p2p.row_exchange import RowExchange
from p2p.row_messages import ROWS_PROTOCOL
from p2p.swarm import Swarm
from p2p.swarm_errors import PortInUse, SwarmError

FIRST_PEER_S = 3.0


class Shared(msgspec.Struct, frozen=True):
    """What this home shares with the swarm, and keeps of it: speeds, model files, who is there and how they behaved."""

    rows: SharedRows
    models: SharedModels
    peers: PeerKeeper
    trust: TrustKeeper


class LibP2PSwarm:
    """Implements core's SwarmPort for one home and network."""

    def __init__(
        self, home: Home, network: Network, *, settings: Settings, shared: Shared
    ) -> None:
        self._home = home
        self._network = network
        self._settings = settings
        self._rows, self._models, self._peers = shared.rows, shared.models, shared.peers
        self._trust = shared.trust
        self._swarm: Swarm | None = None
        self._offers: OfferExchange | None = None
        self._sold: JobSales | None = None

    async def run(
        self, desk: JobDesk, offer: Callable[[str], Offer], *, task_status: trio.TaskStatus[Joined]
    ) -> None:
        """Until cancelled. Raises Trouble."""
        identity = self._identity()
        exchange = self._rows.exchange(identity)
        swarm = self._open(identity=identity, exchange=exchange)
        self._sold = sales = self._sales(desk, identity, swarm=swarm)
        self._offers = offers = OfferExchange(identity, swarm, network=self._network.swarm_id)
        discovery = self._peers.discovery(swarm)
        await discovery.load()
        swarm.trust = await trio.to_thread.run_sync(self._trust.load)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(sales.run)
                await nursery.start(swarm.run)
                self._swarm = swarm
                nursery.start_soon(discovery.run)
                nursery.start_soon(self._trust.run)
                nursery.start_soon(self._peers.tell, swarm)
                await self._first_peer(swarm)
                await offers.announce(offer(swarm.peer_id))
                nursery.start_soon(offers.run)
                task_status.started(Joined(swarm.peer_id, swarm.addresses()))
                nursery.start_soon(self._models.run, swarm)
                if self._rows.learns:
                    nursery.start_soon(exchange.run, swarm)
                while True:
                    await trio.sleep(OFFER_EVERY_S)
                    await self._renew(offers, offer)
        except* PortInUse as group:
            raise Trouble(f"{first_of(group)} Choose another with --port.", is_final=True) from None
        except* SwarmError as group:
            raise Trouble(str(first_of(group))) from None
        finally:
            self._swarm = self._offers = self._sold = None

    async def withdraw(self) -> None:
        """Offer nothing more for the rest of this stay, and tell our neighbours; what runs goes on."""
        if (offers := self._offers) is not None:
            self._offers = None
            await offers.withdraw_all()

    async def settle(self) -> None:
        """Until the last words of all jobs are said and paid for, within a bound."""
        if self._sold is not None:
            await self._sold.settle()

    def peers(self) -> int:
        """How many peers we are connected to."""
        return self._swarm.peer_count if self._swarm is not None else 0

    async def _renew(self, offers: OfferExchange, offer: Callable[[str], Offer]) -> None:
        """Announce anew, unless this peer has taken its offer back."""
        if self._swarm is not None and self._offers is offers:
            await offers.announce(offer(self._swarm.peer_id))

    def _identity(self) -> Identity:
        try:
            return Identity.open(self._home.identity)
        except IdentityUnusable as error:
            raise Trouble(str(error), is_final=True) from None

    def _sales(self, desk: JobDesk, identity: Identity, *, swarm: Swarm) -> JobSales:
        domain = EscrowDomain(self._network.chain_id, self._network.escrow)
        sales = JobSales(desk, identity, ports=SalesPorts(domain, swarm.report, swarm.now))
        swarm.serve(JOB_PROTOCOL, sales.serve)
        return sales

    def _open(self, *, identity: Identity, exchange: RowExchange) -> Swarm:
        swarm = Swarm(
            identity,
            port=self._settings.listen_port,
            bootstrap=self._network.bootstrap,
            network=self._network.swarm_id,
            listen_ip=self._settings.listen_ip,
        )
        swarm.serve(ROWS_PROTOCOL, exchange.serve)
        swarm.serve(MODEL_PROTOCOL, self._models.source().serve)
        keep_reachable(swarm)
        if self._settings.listen_ws_port:
            swarm.beside(BrowserPort(self._settings.listen_ip, self._settings.listen_ws_port).run)
        return swarm

    async def _first_peer(self, swarm: Swarm) -> None:
        """Wait a little for a peer; joining goes on without one, and keeps trying."""
        with trio.move_on_after(FIRST_PEER_S if len(swarm.book) else 0.0):
            while not swarm.peer_count:
                await trio.sleep(0.02)
