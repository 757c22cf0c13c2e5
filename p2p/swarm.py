"""This peer in the swarm: whom it is connected to, and the streams between them.

Owns the host and restarts it when libp2p fails. Knows no libp2p type (the adapter does), and nothing of what is said.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from core.job import PeerId
from core.trouble import first_of
from p2p.byte_stream import ByteStream
from p2p.identity import Identity
from p2p.libp2p_adapter.peer_host import PeerHost
from p2p.swarm_errors import PeerUnreachable, PortInUse, SwarmError

FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 30.0
LOOK_AGAIN_S = 60.0

log = logging.getLogger(__name__)

ServeStream = Callable[[ByteStream, PeerId], Awaitable[None]]


class Swarm:
    """One peer of one network. Run it in a nursery; everything else works while it runs."""

    def __init__(
        self, identity: Identity, *, port: int, bootstrap: tuple[str, ...], network: str, listen_ip: str = "127.0.0.1"
    ) -> None:
        self._identity = identity
        self._listen = (listen_ip, port)
        self._bootstrap = bootstrap
        self._network = network
        self._host: PeerHost | None = None
        self._served: dict[str, ServeStream] = {}
        self._changed = trio.Event()

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

    def addresses(self) -> tuple[str, ...]:
        """Where we listen, each with our peer id; empty while the host is down."""
        return self._host.addresses() if self._host is not None else ()

    async def wait_change(self) -> None:
        """Until a peer has come or gone, or the host has."""
        await self._changed.wait()

    def serve(self, protocol: str, serve: ServeStream) -> None:
        """Call this with each inbound stream of a protocol. Streams of protocols that nobody serves are refused."""
        self._served[protocol] = serve
        if self._host is not None:
            self._host.accept(protocol, serve)

    async def open(self, peer_id: PeerId, protocol: str, *, addresses: tuple[str, ...] = ()) -> ByteStream:
        """A stream to this peer, dialled if need be; whoever gets it must reset it. Raises PeerUnreachable."""
        if self._host is None:
            raise PeerUnreachable("This peer is not in the network now.")
        await self._host.connect(peer_id, addresses)
        return await self._host.open_stream(peer_id, protocol)

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
        host = PeerHost(self._identity.seed, network=self._network)
        for protocol, serve in self._served.items():
            host.accept(protocol, serve)
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run, *self._listen)
            self._host = host
            self._listen = (self._listen[0], self._listen[1] or _port(host.addresses()))
            for address in self._bootstrap:
                nursery.start_soon(self._stay_joined, host, address)
            nursery.start_soon(self._pass_changes_on, host)
            task_status.started()

    async def _pass_changes_on(self, host: PeerHost) -> None:
        while True:
            self._tell_change()
            await host.wait_change()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _stay_joined(self, host: PeerHost, address: str) -> None:
        """Keep connected to one bootstrap peer, with back-off while it is away."""
        peer_id = PeerId(address.rpartition("/p2p/")[2])
        backoff_s = FIRST_BACKOFF_S
        while peer_id != self.peer_id:
            if peer_id in host.connected():
                backoff_s = FIRST_BACKOFF_S
                with trio.move_on_after(LOOK_AGAIN_S):
                    await host.wait_change()
                continue
            try:
                await host.connect(peer_id, (address,))
            except PeerUnreachable:
                await trio.sleep(backoff_s * random.uniform(0.75, 1.25))
                backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)


def _port(addresses: tuple[str, ...]) -> int:
    return int(addresses[0].split("/")[4])


def _names(group: BaseExceptionGroup[Any]) -> str:
    return ", ".join(_names(e) if isinstance(e, BaseExceptionGroup) else type(e).__name__ for e in group.exceptions)
