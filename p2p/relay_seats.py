"""Places at relays: while strangers cannot dial us, up to two relays let them reach us; places are renewed in time.

Takes relays as they come; whoever refuses is left alone for a while. Never keeps a place that isn't needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from core.job import PeerId
from p2p.libp2p_adapter.peer_host import PeerHost
from p2p.reach_exchange import ReachExchange
from p2p.swarm import Swarm
from p2p.swarm_errors import PeerUnreachable

MAX_SEATS = 2
FIRST_LOOK_S = 0.25
LOOK_AGAIN_S = 15.0
LEAVE_ALONE_S = 60.0
RENEW_BEFORE_S = 600.0

log = logging.getLogger(__name__)


def keep_reachable(swarm: Swarm) -> ReachExchange:
    """Have a swarm find out whether strangers can dial it, and sit at relays if not. Call it before it runs."""
    reach = ReachExchange(swarm)
    swarm.beside(RelaySeats(reach.needs_relay).run)
    return reach


class RelaySeats:
    """The reservations of one swarm. needs: whether one is needed now."""

    def __init__(self, needs: Callable[[], bool]) -> None:
        self._needs = needs
        self._left_alone: dict[PeerId, float] = {}

    async def run(self, host: PeerHost) -> None:
        """Keep the places until cancelled; look again when a peer comes or goes, and soon after: a newcomer says only
        after a moment that it is a relay."""
        pause_s = FIRST_LOOK_S
        while True:
            if self._needs():
                await self._take(host)
            with trio.move_on_after(pause_s):
                await host.wait_change()
                pause_s = FIRST_LOOK_S / 2
            pause_s = min(2 * pause_s, LOOK_AGAIN_S)

    async def _take(self, host: PeerHost) -> None:
        now = trio.current_time()
        self._left_alone = {relay: until for relay, until in self._left_alone.items() if until > now}
        held = {one.relay: one.until for one in host.reservations()}
        for relay in [relay for relay, until in held.items() if until - now < RENEW_BEFORE_S]:
            await self._reserve(host, relay)
        free = [relay for relay in host.relays() if relay not in held and relay not in self._left_alone]
        for relay in free[: MAX_SEATS - len(held)]:
            await self._reserve(host, relay)

    async def _reserve(self, host: PeerHost, relay: PeerId) -> None:
        try:
            await host.reserve(relay)
        except PeerUnreachable as error:
            log.info("a relay gave no place: %s", error)
            self._left_alone[relay] = trio.current_time() + LEAVE_ALONE_S
