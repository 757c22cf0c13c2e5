"""A swarm peer for the length of one word of the command line: an identity of its own, beside any engine.

Never takes a job and never announces anything.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from app.peer_keeper import BookShelf
from core.network import Network
from core.trouble import Trouble
from p2p.discovery import Discovery, DiscoveryPorts
from p2p.identity import Identity
from p2p.offer_exchange import OfferExchange
from p2p.swarm import Swarm

JOIN_S = 5.0

log = logging.getLogger(__name__)


@asynccontextmanager
async def own_swarm(network: Network, shelf: BookShelf | None = None) -> AsyncIterator[tuple[Swarm, OfferExchange]]:
    """Joined for the block. shelf: the home's address book, for when no bootstrap peer answers. Raises Trouble when
    nobody at all does."""
    identity = Identity(secrets.token_bytes(32))
    swarm = Swarm(identity, port=0, bootstrap=network.bootstrap, network=network.swarm_id)
    swarm.is_passing = True
    offers = OfferExchange(identity, swarm, network=network.swarm_id)
    shelf = shelf or BookShelf(None, network.swarm_id)
    ports = DiscoveryPorts(load=shelf.load, save=shelf.save, warn=log.warning)
    discovery = Discovery(swarm, network=network.swarm_id, ports=ports, finds_on_lan=False)
    await discovery.load()
    if not len(swarm.book):
        raise Trouble(f"The network file of {network.name} names no bootstrap peer, so nobody can be found.")
    async with trio.open_nursery() as nursery:
        await nursery.start(swarm.run)
        nursery.start_soon(discovery.run)
        with trio.move_on_after(JOIN_S):
            while not swarm.peer_count:
                await trio.sleep(0.02)
        if not swarm.peer_count:
            raise Trouble(
                f"No peer of {network.name} answers, neither those that its file names nor any that was known before. "
                "Check that the network is up, then try again."
            )
        yield swarm, offers
        nursery.cancel_scope.cancel()
