"""A second port where browsers can dial this peer: WebSockets, the same protocols behind them. Off unless asked for.

Whoever wants browsers on https pages puts a TLS proxy before it, and names that address in the network file.
"""

from __future__ import annotations

import logging

import trio

from p2p.libp2p_adapter.interfaces import listen_addresses
from p2p.libp2p_adapter.peer_host import PeerHost
from p2p.swarm_errors import PortInUse

LOOK_AGAIN_S = 30.0

log = logging.getLogger(__name__)


class BrowserPort:
    """Give its run to Swarm.beside: it opens the port with every host that the swarm starts. opened: it is open."""

    def __init__(self, ip: str, port: int) -> None:
        self._ip = ip
        self._port = port
        self.opened = trio.Event()

    async def run(self, host: PeerHost) -> None:
        """Listen, at addresses that this machine gets later too, until cancelled. Raises PortInUse at the start."""
        known = listen_addresses(self._ip)
        await host.listen_for_browsers(known, self._port)
        self.opened.set()
        while True:
            await trio.sleep(LOOK_AGAIN_S)
            new = [ip for ip in listen_addresses(self._ip) if ip not in known]
            known += new
            try:
                await host.listen_for_browsers(new, self._port)
            except* PortInUse:
                log.info("browsers cannot be listened for at a new address: its port is in use")
