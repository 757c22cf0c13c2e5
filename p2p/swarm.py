"""This peer in the swarm: whom it knows and is connected to, and the streams between them.

Owns the host and restarts it when libp2p fails; keeps connected by its address book. Knows no libp2p type (the adapter
does), and nothing of what is said but the hello: whoever is of another network gets no stream.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import trio

from core.job import PeerId
from core.trouble import first_of
from p2p.address_book import AddressBook, Heard, Source
from p2p.byte_stream import ByteStream
from p2p.clock_skew import ClockSkew
from p2p.connector import Connector, ConnectorPorts
from p2p.greeting import Greeted, Greeter, GreetingPorts
from p2p.identity import Identity
from p2p.libp2p_adapter.interfaces import listen_addresses
from p2p.libp2p_adapter.limits import ConnectionLimits
from p2p.libp2p_adapter.peer_host import PeerHost
from p2p.path import Path
from p2p.peer_address import group_of, ip_of, worth_trying
from p2p.peer_choice import TARGET_OUTBOUND, Link, overstayed
from p2p.peer_messages import HELLO_PROTOCOL
from p2p.peer_record import OwnRecord, SignedRecord, record_fault
from p2p.relay_book import RelayBook
from p2p.swarm_errors import OtherNetwork, PeerUnreachable, PortInUse, SwarmError
from p2p.swarm_metrics import SwarmMetrics
from p2p.trust import Fault, Trust
from p2p.wakefulness import Moment, jumped
from p2p.watched_stream import WatchedStream

FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 30.0
LOOK_ROUND_S = 5.0

log = logging.getLogger(__name__)

ServeStream = Callable[[ByteStream, PeerId], Awaitable[None]]
Beside = Callable[[PeerHost], Awaitable[None]]


class Swarm:
    """One peer of one network (its swarm id). Run it in a nursery; everything else works while it runs. book: whom we
    know, the bootstrap peers from the start; target_outbound: how many connections it dials by itself; limits: how many
    it takes."""

    target_outbound = TARGET_OUTBOUND
    is_passing = False
    is_meeting_point = False
    limits = ConnectionLimits()

    def __init__(
        self, identity: Identity, *, port: int, bootstrap: tuple[str, ...], network: str, listen_ip: str = "127.0.0.1"
    ) -> None:
        self._identity = identity
        self._listen = (listen_ip, port)
        self._network = network
        self._host: PeerHost | None = None
        self._served: dict[str, ServeStream] = {}
        self._beside: list[Beside] = []
        self._relay: RelayBook | None = None
        self._since: dict[PeerId, float] = {}
        self._changed = trio.Event()
        self._ban_began = trio.Event()
        self.clock: Callable[[], float] = time.time
        self.book = AddressBook(identity.peer_id)
        self.skew = ClockSkew()
        self.trust = Trust()
        self._record = OwnRecord(identity, self._told_addresses, swarm=network)
        self._greeter = Greeter(network, self._greeting_ports())
        for address in bootstrap:
            peer_id = PeerId(address.rpartition("/p2p/")[2])
            self.book.hear(Heard(peer_id, (address,), Source.NETWORK_FILE), now=self.clock())
        self.serve(HELLO_PROTOCOL, self._greeter.serve)

    @property
    def peer_id(self) -> PeerId:
        """Our id."""
        return self._identity.peer_id

    @property
    def peer_count(self) -> int:
        """How many peers we are connected to."""
        return len(self.peers())

    def peers(self) -> tuple[PeerId, ...]:
        """The peers we are connected to."""
        return self._host.connected() if self._host is not None else ()

    def path_of(self, peer_id: PeerId) -> Path | None:
        """Whether bytes to this peer go directly or through a relay; None where it is not connected."""
        return self._host.path_of(peer_id) if self._host is not None else None

    def rtt_of(self, peer_id: PeerId) -> float | None:
        """Seconds there and back to this peer, the relay's detour included; None: not known."""
        return self._host.rtt_of(peer_id) if self._host is not None else None

    def beside(self, run: Beside) -> None:
        """Run this with every host that is started, until it ends. Call it before run."""
        self._beside.append(run)

    def serve_relay(self, book: RelayBook) -> None:
        """Carry others' connections, within the book's limits. Call it before run."""
        self._relay = book

    def addresses(self) -> tuple[str, ...]:
        """Where we can be dialled, each with our peer id; empty while the host is down."""
        return self._host.addresses() if self._host is not None else ()

    def links(self) -> tuple[Link, ...]:
        """Our connections, each with its age."""
        links = self._host.links() if self._host is not None else ()
        return tuple(msgspec.structs.replace(k, since=self._since.setdefault(k.peer_id, self.clock())) for k in links)

    def metrics(self) -> SwarmMetrics:
        """What the present host has carried and refused; bans since the start."""
        counted = self._host.metrics() if self._host is not None else SwarmMetrics()
        return msgspec.structs.replace(counted, bans=self.trust.counts(now=self.clock()).bans)

    def record(self) -> SignedRecord:
        """Where we may be dialled, signed."""
        return self._record.at(self.now())

    def now(self) -> float:
        """Seconds since the epoch by the peers' clocks, where ours is off by more than a minute."""
        return self.clock() + self.skew.correction_s()

    async def wait_change(self) -> None:
        """Until a peer has come or gone, or the host has."""
        await self._changed.wait()

    def serve(self, protocol: str, serve: ServeStream) -> None:
        """Call this with each inbound stream of a protocol. Streams of protocols that nobody serves are refused, and so
        is whoever belongs to another network."""

        async def guarded(stream: ByteStream, peer: PeerId) -> None:
            is_foreign = self._greeter.is_foreign(peer) and protocol != HELLO_PROTOCOL
            if is_foreign or self._is_banned(peer):
                await stream.reset()
                return
            await serve(self._watched(stream, peer), peer)

        self._served[protocol] = guarded
        if self._host is not None:
            self._host.accept(protocol, guarded)

    async def open(self, peer_id: PeerId, protocol: str, *, addresses: tuple[str, ...] = ()) -> ByteStream:
        """A stream to this peer, dialled if need be; whoever gets it must reset it. Raises PeerUnreachable."""
        await self.reach(peer_id, addresses)
        return self._watched(await self._open_stream(peer_id, protocol), peer_id)

    def report(self, peer_id: PeerId, fault: Fault) -> None:
        """A peer did this. When a ban begins with it, the connection is closed, and neither streams nor dials go
        through until it ends."""
        if self.trust.note(peer_id, fault, now=self.clock()):
            log.info("%s is banned for a while", peer_id)
            self._ban_began.set()

    async def open_newest(
        self, peer_id: PeerId, versions: tuple[str, ...], *, addresses: tuple[str, ...] = ()
    ) -> tuple[str, ByteStream]:
        """As open, with the versions of a protocol that we speak, newest first: which one it is, and the stream."""
        await self.reach(peer_id, addresses)
        if self._host is None:
            raise PeerUnreachable("This peer is not in the network now.")
        return await self._host.open_newest(peer_id, versions)

    async def reach(self, peer_id: PeerId, addresses: tuple[str, ...] = ()) -> None:
        """Be connected to this peer, at these addresses or those in the book. Raises PeerUnreachable, OtherNetwork."""
        if self._host is None:
            raise PeerUnreachable("This peer is not in the network now.")
        if self._is_banned(peer_id):
            raise PeerUnreachable("The peer broke the rules, and is banned for a while.")
        try:
            if self._greeter.is_foreign(peer_id):
                raise OtherNetwork
            if peer_id not in self._host.connected():
                await self._dial(self._host, peer_id, addresses=addresses)
            await self._greeter.greet(peer_id)
        except OtherNetwork:
            self.book.disown(peer_id, now=self.clock())
            raise

    def look_again(self) -> None:
        """Somebody new is in the book."""
        self._tell_change()

    async def let_go(self, peer_id: PeerId) -> None:
        """Close the connection to this peer."""
        if self._host is not None:
            await self._host.disconnect(peer_id)

    async def provide(self, key: bytes) -> bool:
        """Publish a provider record for this multihash; False when no peer took it."""
        return self._host is not None and await self._host.provide(key)

    async def find_providers(self, key: bytes) -> list[tuple[PeerId, tuple[str, ...]]]:
        """Who published a provider record for this multihash, and where they may be dialled."""
        if self._host is None or not self.peers():
            return []
        return await self._host.find_providers(key)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and stay joined until cancelled; restarts the host when it fails. Raises PortInUse, SwarmError."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            began = trio.current_time()
            try:
                await self._run_host(task_status)
            except* PortInUse as group:
                raise first_of(group) from None
            except* Exception as group:
                if self._listen[1] == 0:
                    raise SwarmError("The swarm could not start on this computer.") from group
                log.warning("the swarm's host failed and is restarted: %s", _names(group))
            finally:
                self._host = None
                self._tell_change()
            task_status = trio.TASK_STATUS_IGNORED
            backoff_s = FIRST_BACKOFF_S if trio.current_time() - began > MAX_BACKOFF_S else 2 * backoff_s
            await trio.sleep(min(backoff_s, MAX_BACKOFF_S))

    async def _run_host(self, task_status: trio.TaskStatus[None]) -> None:
        host = PeerHost(self._identity.seed, network=self._network, limits=self.limits)
        for protocol, serve in self._served.items():
            host.accept(protocol, serve)
        if self._relay is not None:
            host.serve_relay(self._relay)
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run, *self._listen)
            self._host = host
            self._listen = (self._listen[0], self._listen[1] or _port(host.addresses()))
            nursery.start_soon(self._connector().run)
            nursery.start_soon(self._pass_changes_on, host)
            nursery.start_soon(self._look_round, host)
            nursery.start_soon(self._keep_out_banned, host)
            for run in self._beside:
                nursery.start_soon(run, host)
            task_status.started()

    def _connector(self) -> Connector:
        ports = ConnectorPorts(
            links=self.links,
            reach=self.reach,
            let_go=self._spare,
            changed=lambda: self._changed,
            clock=lambda: self.clock(),
        )
        return Connector(self.book, ports, target=self.target_outbound)

    async def _spare(self, peer_id: PeerId) -> None:
        """Let a peer go whose place newcomers may need more; not a relay that brings others to us."""
        if self._host is not None and peer_id not in {held.relay for held in self._host.reservations()}:
            await self._host.disconnect(peer_id)

    def _greeting_ports(self) -> GreetingPorts:
        return GreetingPorts(
            open=self._open_stream,
            let_go=self.let_go,
            greeted=self._greeted,
            record=self.record,
            clock=lambda: self.clock(),
        )

    async def _open_stream(self, peer_id: PeerId, protocol: str) -> ByteStream:
        if self._host is None:
            raise PeerUnreachable("This peer is not in the network now.")
        return await self._host.open_stream(peer_id, protocol)

    async def _dial(self, host: PeerHost, peer_id: PeerId, *, addresses: tuple[str, ...]) -> None:
        known = self.book.get(peer_id)
        try:
            where = tuple(dict.fromkeys((*addresses, *(known.addresses if known else ()))))
            await host.connect(peer_id, where, from_port=known is not None and known.is_given)
        except PeerUnreachable:
            self.book.failed(peer_id, now=self.clock())
            self.report(peer_id, Fault.REFUSED_DIAL)
            raise
        self.book.succeeded(peer_id, self._address_of(peer_id), now=self.clock())

    def _greeted(self, greeted: Greeted) -> None:
        """A peer of our swarm: what it says of its clock and of itself."""
        peer, now = greeted.peer_id, self.now()
        known, group = self.book.get(peer), group_of(ip_of(self._address_of(peer)))
        is_trusted = known is not None and known.is_given
        before = self.skew.correction_s()
        self.skew.note(peer, greeted.skew_s, group=group, is_trusted=is_trusted)
        if bool(before) != bool(self.skew.correction_s()):
            self._tell_change()
        signed = greeted.record
        if signed is None or signed.record.peer_id != peer or record_fault(signed, swarm=self._network, now=self.now()):
            return
        addresses = worth_trying(signed.record.addresses, told_from=self._address_of(peer))
        heard = Heard(peer, addresses, Source.INBOUND, teller=group or peer, record=signed)
        self.book.hear(heard, now=now)

    def _told_addresses(self) -> tuple[str, ...]:
        return () if self.is_passing else self.addresses()

    def _address_of(self, peer_id: PeerId) -> str:
        return next((link.address for link in self.links() if link.peer_id == peer_id), "")

    async def _pass_changes_on(self, host: PeerHost) -> None:
        """Tell whoever waits, and say hello to those whom libp2p dialled by itself."""
        async with trio.open_nursery() as nursery:
            while True:
                connected = set(host.connected())
                self._since = {peer: at for peer, at in self._since.items() if peer in connected}
                self._greeter.forget(connected)
                for link in filter(lambda link: link.is_outbound, self.links()):
                    nursery.start_soon(self._greet, link.peer_id)
                for peer_id in self._overstayed():
                    nursery.start_soon(self.let_go, peer_id)
                self._tell_change()
                await host.wait_change()

    async def _keep_out_banned(self, host: PeerHost) -> None:
        """Close the connections to whom a ban begins for, and to the banned who come again."""
        while True:
            self._ban_began = trio.Event()
            for peer_id in filter(self._is_banned, host.connected()):
                await host.disconnect(peer_id)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_then_cancel, host.wait_change, nursery.cancel_scope)
                nursery.start_soon(_then_cancel, self._ban_began.wait, nursery.cancel_scope)

    def _is_banned(self, peer_id: PeerId) -> bool:
        return self.trust.is_banned(peer_id, now=self.clock())

    def _watched(self, stream: ByteStream, peer_id: PeerId) -> ByteStream:
        return WatchedStream(stream, partial(self.report, peer_id, Fault.BAD_FRAME))

    def _overstayed(self) -> list[PeerId]:
        if not self.is_meeting_point:
            return []
        return overstayed(self.links(), most=self.limits.total, now=self.clock())

    async def _greet(self, peer_id: PeerId) -> None:
        try:
            await self._greeter.greet(peer_id)
        except PeerUnreachable as error:
            log.debug("%s was let go: %s", peer_id, error)
            self.book.disown(peer_id, now=self.clock())

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _look_round(self, host: PeerHost) -> None:
        """Notice sleep, a clock that was set and new addresses of this computer: then everybody is tried anew."""
        ips = listen_addresses(self._listen[0])
        while True:
            before = Moment(self.clock(), trio.current_time())
            await trio.sleep(LOOK_ROUND_S)
            after, found = Moment(self.clock(), trio.current_time()), listen_addresses(self._listen[0])
            if found == ips and not jumped(before, after, expected_s=LOOK_ROUND_S):
                continue
            log.info("this computer slept, or its addresses changed: peers are tried anew")
            await host.listen_at([ip for ip in found if ip not in ips], self._listen[1])
            ips = found
            self.book.forgive()
            self._tell_change()


async def _then_cancel(wait: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()


def _port(addresses: tuple[str, ...]) -> int:
    return int(addresses[0].split("/")[4])


def _names(group: BaseExceptionGroup[Any]) -> str:
    return ", ".join(_names(e) if isinstance(e, BaseExceptionGroup) else type(e).__name__ for e in group.exceptions)
