"""How one peer comes to know others beyond its bootstrap list: its own book of last time, peers' word, and the LAN.

Feeds the swarm's address book and keeps it over restarts; whom to dial is not decided here.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import msgspec
import trio

from core.job import PeerId
from p2p.address_book import Heard, KnownPeer, Source
from p2p.clock_skew import clock_sentence
from p2p.lan import Lan
from p2p.peer_address import ip_of, is_of_this_machine
from p2p.peer_exchange import PeerExchange
from p2p.peer_messages import PEERS_PROTOCOL
from p2p.swarm import Swarm

FIRST_SAVE_S = 10.0
SAVE_EVERY_S = 60.0
SAVE_S = 5.0
LOOK_S = 5.0


class DiscoveryPorts(msgspec.Struct, frozen=True):
    """load and save: the address book over restarts, both within seconds and without raising; warn: called with the
    sentence about this computer's clock whenever it changes (empty: the clock is right)."""

    load: Callable[[], Awaitable[tuple[KnownPeer, ...]]]
    save: Callable[[tuple[KnownPeer, ...]], Awaitable[None]]
    warn: Callable[[str], None]


class Discovery:
    """One stay of one swarm. Make it before the swarm runs, load it, then run it beside. network: the swarm id;
    finds_on_lan: whether to tell of us on the LAN and to listen there."""

    def __init__(self, swarm: Swarm, *, network: str, ports: DiscoveryPorts, finds_on_lan: bool) -> None:
        self._swarm = swarm
        self._network = network
        self._ports = ports
        self._finds_on_lan = finds_on_lan
        self._exchange = PeerExchange(swarm, swarm=network)
        swarm.serve(PEERS_PROTOCOL, self._exchange.serve)

    async def load(self) -> None:
        """Take up the book of last time."""
        self._swarm.book.restore(await self._ports.load(), now=time.time())

    async def run(self) -> None:
        """Until cancelled; saves the book at the end too."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._exchange.run)
                nursery.start_soon(self._save_now_and_then)
                nursery.start_soon(self._watch_clock)
                if self._finds_on_lan:
                    nursery.start_soon(self._be_on_lan)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + SAVE_S):
                await self._ports.save(self._swarm.book.peers())

    async def _save_now_and_then(self) -> None:
        await trio.sleep(FIRST_SAVE_S)
        while True:
            await self._ports.save(self._swarm.book.peers())
            await trio.sleep(SAVE_EVERY_S)

    async def _watch_clock(self) -> None:
        told = ""
        while True:
            sentence = clock_sentence(self._swarm.skew.correction_s())
            if sentence != told:
                told = sentence
                self._ports.warn(sentence)
            await self._swarm.wait_change()

    async def _be_on_lan(self) -> None:
        """Anew whenever our addresses change."""
        while True:
            ips, port = _lan_place(self._swarm.addresses())
            async with trio.open_nursery() as nursery:
                if ips:
                    nursery.start_soon(self._run_lan, ips, port)
                while _lan_place(self._swarm.addresses()) == (ips, port):
                    await trio.sleep(LOOK_S)
                nursery.cancel_scope.cancel()

    async def _run_lan(self, ips: tuple[str, ...], port: int) -> None:
        await Lan(self._swarm.peer_id, swarm=self._network, hear=self._hear).run(ips, port=port)

    def _hear(self, peer_id: PeerId, addresses: tuple[str, ...]) -> None:
        self._swarm.book.hear(Heard(peer_id, addresses, Source.LAN), now=time.time())
        self._swarm.look_again()


def _lan_place(addresses: tuple[str, ...]) -> tuple[tuple[str, ...], int]:
    """Our private IPv4 addresses, or the loopback one where we have no other, and the port that we listen on there."""
    direct = [address for address in addresses if "p2p-circuit" not in address]
    ips = {str(ip): address for address in direct if (ip := ip_of(address)) and ip.version == 4 and ip.is_private}
    beyond = {ip: address for ip, address in ips.items() if not is_of_this_machine(address)} or ips
    ports = [int(address.split("/")[4]) for address in beyond.values()]
    return tuple(sorted(beyond)), ports[0] if ports else 0
