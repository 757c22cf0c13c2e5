"""A second port where browsers can dial this peer: WebSockets, the same protocols behind them. Off unless asked for.

Whoever wants browsers on https pages puts a TLS proxy before it, and names that address in the network file.
"""

from __future__ import annotations

import trio

from p2p.libp2p_adapter.interfaces import listen_addresses
from p2p.libp2p_adapter.peer_host import PeerHost


class BrowserPort:
    """Give its run to Swarm.beside: it opens the port with every host that the swarm starts. opened: it is open."""

    def __init__(self, ip: str, port: int) -> None:
        self._ip = ip
        self._port = port
        self.opened = trio.Event()

    async def run(self, host: PeerHost) -> None:
        """Listen. Raises PortInUse."""
        await host.listen_for_browsers(listen_addresses(self._ip), self._port)
        self.opened.set()
