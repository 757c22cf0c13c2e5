"""The engine's way into the swarm: libp2p streams for its desk, its offer announced and kept fresh.

Translates what can go wrong into one sentence. Decides nothing about jobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

from app.shared_rows import SharedRows
from core.home import Home
from core.job import PeerId
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
from p2p.offer_exchange import OfferExchange
from p2p.relay_seats import keep_reachable
from p2p.row_exchange import RowExchange
from p2p.row_messages import ROWS_PROTOCOL
from p2p.swarm import Swarm
from p2p.swarm_errors import PortInUse, SwarmError
from p2p.trust import Fault, Trust

FIRST_PEER_S = 3.0


class LibP2PSwarm:
    """Implements core's SwarmPort for one home and network."""

    def __init__(self, home: Home, network: Network, *, settings: Settings, rows: SharedRows) -> None:
        self._home = home
        self._network = network
        self._settings = settings
        self._rows = rows
        self._swarm: Swarm | None = None
        self._trust = Trust()

    async def run(
        self, desk: JobDesk, offer: Callable[[str], Offer], *, task_status: trio.TaskStatus[Joined]
    ) -> None:
        """Until cancelled. Raises Trouble."""
        identity = self._identity()
        exchange = self._rows.exchange(identity)
        sales = self._sales(desk, identity)
        swarm = self._open(sales, identity=identity, exchange=exchange)
        offers = OfferExchange(identity, swarm, network=self._network.name)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(sales.run)
                await nursery.start(swarm.run)
                self._swarm = swarm
                await self._first_peer(swarm)
                await offers.announce(offer(swarm.peer_id))
                nursery.start_soon(offers.run)
                task_status.started(Joined(swarm.peer_id, swarm.addresses()))
                if self._rows.learns:
                    nursery.start_soon(exchange.run, swarm)
                while True:
                    await trio.sleep(OFFER_EVERY_S)
                    await offers.announce(offer(swarm.peer_id))
        except* PortInUse as group:
            raise Trouble(f"{first_of(group)} Choose another with --port.", is_final=True) from None
        except* SwarmError as group:
            raise Trouble(str(first_of(group))) from None
        finally:
            self._swarm = None

    def peers(self) -> int:
        """How many peers we are connected to."""
        return self._swarm.peer_count if self._swarm is not None else 0

    def _identity(self) -> Identity:
        try:
            return Identity.open(self._home.identity)
        except IdentityUnusable as error:
            raise Trouble(str(error), is_final=True) from None

    def _sales(self, desk: JobDesk, identity: Identity) -> JobSales:
        domain = EscrowDomain(self._network.chain_id, self._network.escrow)
        return JobSales(desk, identity, ports=SalesPorts(domain, self._report, time.time))

    def _report(self, peer: PeerId, fault: Fault) -> None:
        self._trust.note(peer, fault, now=time.time())

    def _open(self, sales: JobSales, *, identity: Identity, exchange: RowExchange) -> Swarm:
        swarm = Swarm(
            identity,
            port=self._settings.listen_port,
            bootstrap=self._network.bootstrap,
            network=self._network.name,
            listen_ip=self._settings.listen_ip,
        )

        swarm.serve(JOB_PROTOCOL, sales.serve)
        swarm.serve(ROWS_PROTOCOL, exchange.serve)
        keep_reachable(swarm)
        if self._settings.listen_ws_port:
            swarm.beside(BrowserPort(self._settings.listen_ip, self._settings.listen_ws_port).run)
        return swarm

    async def _first_peer(self, swarm: Swarm) -> None:
        """Wait a little for a bootstrap peer; joining goes on without one, and keeps trying."""
        with trio.move_on_after(FIRST_PEER_S if self._network.bootstrap else 0.0):
            while not swarm.peer_count:
                await trio.sleep(0.02)
