"""Peers of the same swarm on the same LAN, by multicast DNS (RFC 6762): tells of us there and hears of others.

The only importer of zeroconf, whose threads stay here. The service's name holds the swarm id, so that two networks on
one LAN never see each other. Believes nothing: what is heard is a hint to dial.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import trio
from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from core.job import PeerId

MAX_HEARD = 256
ASK_MS = 1_500
CLOSE_S = 3.0

log = logging.getLogger(__name__)

Hear = Callable[[PeerId, tuple[str, ...]], None]


def service_type(swarm: str) -> str:
    """The service that peers of this swarm look for; at most 15 characters before the protocol (RFC 6763)."""
    return f"_st-{swarm[:12]}._tcp.local."


class Lan:
    """One peer on the LANs of these IPv4 addresses and port."""

    def __init__(self, peer_id: PeerId, *, swarm: str, hear: Hear) -> None:
        self._peer_id = peer_id
        self._swarm = swarm
        self._type = service_type(swarm)
        self._hear = hear
        self._heard: set[str] = set()
        self._zeroconf: Zeroconf | None = None

    async def run(self, ips: tuple[str, ...], *, port: int) -> None:
        """Until cancelled. Where multicast cannot be had it says so in the log and returns."""
        token = trio.lowlevel.current_trio_token()
        try:
            await trio.to_thread.run_sync(partial(self._open, ips, port=port, token=token), abandon_on_cancel=True)
            await trio.sleep_forever()
        except (OSError, ZeroconfError) as error:
            log.warning("peers on this LAN are not looked for: %s", type(error).__name__)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                await trio.to_thread.run_sync(self._close, abandon_on_cancel=True)

    def _open(self, ips: tuple[str, ...], *, port: int, token: trio.lowlevel.TrioToken) -> None:
        """In a thread: announcing takes its time (RFC 6762 has it ask first whether the name is free)."""
        self._zeroconf = zeroconf = Zeroconf(interfaces=list(ips), ip_version=IPVersion.V4Only)

        def changed(*, name: str, state_change: ServiceStateChange, **_: object) -> None:
            is_room = len(self._heard) < MAX_HEARD or name in self._heard
            if state_change is not ServiceStateChange.Removed and is_room:
                self._heard.add(name)
                self._look_up(zeroconf, name, token=token)

        ServiceBrowser(zeroconf, self._type, handlers=[changed])
        name = f"{self._peer_id}.{self._type}"
        service = ServiceInfo(
            self._type,
            name,
            port=port,
            parsed_addresses=list(ips),
            properties={"peer": self._peer_id, "swarm": self._swarm},
            server=f"{self._peer_id}.local.",
        )
        zeroconf.register_service(service)

    def _look_up(self, zeroconf: Zeroconf, name: str, *, token: trio.lowlevel.TrioToken) -> None:
        """In zeroconf's thread: ask where a peer is, and hand it over to trio's."""
        found = zeroconf.get_service_info(self._type, name, timeout=ASK_MS)
        if found is None or found.port is None or found.properties.get(b"swarm") != self._swarm.encode():
            return
        peer_id = PeerId((found.properties.get(b"peer") or b"").decode("ascii", "replace"))
        if peer_id == self._peer_id:
            return
        ips = found.parsed_addresses(IPVersion.V4Only)
        addresses = tuple(f"/ip4/{ip}/tcp/{found.port}/p2p/{peer_id}" for ip in ips)
        try:
            token.run_sync_soon(self._hear, peer_id, addresses)
        except trio.RunFinishedError:
            log.debug("a peer on this LAN was heard of too late")

    def _close(self) -> None:
        if self._zeroconf is not None:
            self._zeroconf.close()
