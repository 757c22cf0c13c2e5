"""How a peer is dialled: all its direct addresses, each a little after the one before, and a moment later one relay
after another, since a connection through one costs three machines a handshake.

The first connection that stands ends the other attempts. Decides nothing about whom to dial.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from core.job import PeerId
from p2p.libp2p_adapter.circuits import Circuits
from p2p.libp2p_adapter.limits import DIAL_S, DIAL_STAGGER_S, UPGRADE_S
from p2p.swarm_errors import PeerUnreachable

MAX_ADDRESSES = 8
MAX_CIRCUITS = 4
CIRCUIT_DELAY_S = 0.75
CIRCUIT_STAGGER_S = 2.0
CIRCUIT_DIAL_S = 20.0
PORT_TAKEN_S = 0.05
NAT_FORGETS_S = 600.0
MAX_REMEMBERED = 4_096
RELAY_MARK = "/p2p-circuit"
DIRECT = (["ip4", "tcp"], ["ip4", "tcp", "p2p"], ["ip6", "tcp"], ["ip6", "tcp", "p2p"])

log = logging.getLogger(__name__)


class DialledIps:
    """To which IP addresses we have sent lately: some NATs let in whoever is at one of them, and nobody else."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def note(self, address: Multiaddr, *, now: float) -> None:
        """We dial this address."""
        self._at.pop(ip := str(address).split("/")[2], None)
        self._at[ip] = now
        if len(self._at) > MAX_REMEMBERED:
            del self._at[next(iter(self._at))]

    def has(self, ip: str, *, now: float) -> bool:
        """Whether a NAT may still remember that we have dialled there."""
        return now - self._at.get(ip, -NAT_FORGETS_S) < NAT_FORGETS_S


class Dialer:
    """The way to peers of one host."""

    def __init__(self, host: Any, circuits: Circuits) -> None:
        self._host = host
        self._circuits = circuits

    async def connect(self, peer_id: PeerId, addresses: Sequence[str], *, from_port: bool = False) -> None:
        """Dial until one address has led to this peer; returns without a connection where none does. from_port: from
        the port that we listen on, so that what the peer sees is where a NAT would let others in."""
        target = id_of(peer_id)
        direct = [address for address in addresses if is_direct(address)][:MAX_ADDRESSES]
        relayed = {relay_of(address): address for address in reversed(addresses) if is_relayed(address)}
        async with trio.open_nursery() as nursery:
            won = nursery.cancel_scope
            for place, address in enumerate(direct):
                dial = partial(self._dial, target, address, from_port=from_port)
                nursery.start_soon(partial(_attempt, dial, delay_s=place * DIAL_STAGGER_S, won=won))
            await trio.sleep(CIRCUIT_DELAY_S if direct and relayed else 0.0)
            for address in list(reversed(relayed.values()))[:MAX_CIRCUITS]:
                failed = trio.Event()
                dial = partial(self._dial_relayed, peer_id, address)
                nursery.start_soon(partial(_attempt, dial, won=won, failed=failed))
                with trio.move_on_after(CIRCUIT_STAGGER_S):
                    await failed.wait()

    async def _dial(self, target: ID, address: str, *, from_port: bool) -> None:
        with trio.fail_after(DIAL_S + UPGRADE_S):
            where = Multiaddr(address)
            self._host.get_peerstore().add_addrs(target, [where], 3_600)
            network = self._host.get_network()
            source = self._source(where) if from_port else None
            if source is None:
                await network.dial_addr(where, target)
                return
            began = trio.current_time()
            try:
                await network.dial_addr(where, target, source)
            except Exception:
                if trio.current_time() - began > PORT_TAKEN_S:
                    raise
                await network.dial_addr(where, target)  # an earlier connection from this port still lingers

    async def _dial_relayed(self, peer_id: PeerId, address: str) -> None:
        relay_address, relay = address.partition(RELAY_MARK)[0], relay_of(address)
        with trio.fail_after(CIRCUIT_DIAL_S):
            if not self._host.get_network().get_connections(id_of(relay)):
                await self.connect(relay, [relay_address])
            await self._circuits.dial(relay, peer_id)

    def _source(self, target: Multiaddr) -> tuple[str, int] | None:
        """Our listening socket on the way to this address, if there is one."""
        return source_for(target, self._host.get_transport_addrs())


async def _attempt(
    dial: Any, *, won: trio.CancelScope, delay_s: float = 0.0, failed: trio.Event | None = None
) -> None:
    await trio.sleep(delay_s)
    try:
        await dial()
    except Exception as error:  # noqa: BLE001  any fault of one address leaves the others
        log.debug("an address leads nowhere: %s: %s", type(error).__name__, error)
        if failed is not None:
            failed.set()
        return
    won.cancel()


def source_for(target: Multiaddr, listening: Sequence[Multiaddr]) -> tuple[str, int] | None:
    """The one of these listening addresses from which packets to the target leave; no packet is sent."""
    is_v6 = target.protocols()[0].name == "ip6"
    host = target.value_for_protocol("ip6" if is_v6 else "ip4")
    with socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return None
        ip = probe.getsockname()[0]
    for address in listening:
        parts = str(address).split("/")
        if parts[2] == ip:
            return ip, int(parts[4])
    return None


def id_of(peer_id: PeerId) -> ID:
    """Raises PeerUnreachable for what is no peer id."""
    try:
        return ID.from_base58(peer_id)
    except ValueError as error:
        raise PeerUnreachable("This is no peer id.") from error


def is_direct(address: str) -> bool:
    """Plain TCP on an IP address; names and other transports are not dialled."""
    return _names(address) in DIRECT


def is_relayed(address: str) -> bool:
    """Through a relay that has a direct address and an id."""
    relay, mark, _ = address.partition(RELAY_MARK)
    return bool(mark) and is_direct(relay) and "/p2p/" in relay


def relay_of(address: str) -> PeerId:
    """The relay of an address through one."""
    return PeerId(address.partition(RELAY_MARK)[0].rpartition("/p2p/")[2])


def _names(address: str) -> list[str]:
    try:
        return [protocol.name for protocol in Multiaddr(address).protocols()]
    except Exception:  # noqa: BLE001  addresses come from strangers, and multiaddr raises many kinds
        return []
