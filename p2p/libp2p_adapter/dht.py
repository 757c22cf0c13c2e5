"""Kademlia for provider records, under the network's own protocol name so that no two networks ever join.

libp2p's KadDHT ignores its protocol_prefix and would join the public one: it gets a view of the host that renames.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
from libp2p.kad_dht.common import PROTOCOL_ID
from libp2p.tools.anyio_service import background_trio_service

from core.job import PeerId
from p2p.libp2p_adapter.bounded_stream import BoundedStream
from p2p.libp2p_adapter.kademlia import Kademlia
from p2p.libp2p_adapter.limits import MAX_DHT_ANSWER_BYTES
from p2p.libp2p_adapter.supervision import supervise
from p2p.libp2p_adapter.traffic import Traffic

MAX_ASKED = 10
QUERY_S = 5.0

log = logging.getLogger(__name__)

Reach = Callable[[Any], Awaitable[None]]
"""Connect to a libp2p peer id at the addresses known for it. Raises PeerUnreachable."""


class Dht:
    """One node of one network's DHT, in server mode."""

    def __init__(self, host: Any, network: str, *, reach: Reach, traffic: Traffic) -> None:
        self._host = _RenamedHost(host, f"/starling/{network}/kad/1.0.0", reach=reach)
        self._traffic = traffic
        self._kad = Kademlia(self._host, traffic)

    @property
    def provider_records(self) -> int:
        """How many records this node keeps."""
        return int(self._kad.provider_store.size())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer and refresh while inside; a fault of the service restarts it, with all that it knows forgotten."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(supervise, "dht", self._run, traffic=self._traffic))
            yield
            nursery.cancel_scope.cancel()

    async def _run(self) -> None:
        try:
            async with background_trio_service(self._kad) as running:
                await running.wait_finished()
        except Exception:
            self._kad = Kademlia(self._host, self._traffic)
            raise

    async def meet(self, peer_id: Any) -> None:
        """A connected peer may be a node: put it into the routing table."""
        await self._kad.add_peer(peer_id, skip_server_mode_check=True)

    async def provide(self, key: bytes) -> bool:
        """Tell the nodes closest to this key (a multihash) that we provide it; False when nobody was told."""
        return bool(await self._kad.provider_store.provide(key))

    async def find_providers(self, key: bytes) -> list[tuple[PeerId, tuple[str, ...]]]:
        """Who provides this key, with addresses, asking the network and not only our own records."""
        found: dict[PeerId, tuple[str, ...]] = {}
        closest = await self._kad.peer_routing.find_closest_peers_network(key)
        async with trio.open_nursery() as nursery:
            for peer_id in closest[:MAX_ASKED]:
                nursery.start_soon(partial(self._ask, peer_id, key, found=found))
        _merge(found, self._kad.provider_store.get_providers(key))
        return list(found.items())

    async def _ask(self, peer_id: Any, key: bytes, *, found: dict[PeerId, tuple[str, ...]]) -> None:
        with trio.move_on_after(QUERY_S):
            providers, _ = await self._kad.provider_store._get_providers_from_peer_with_closers(peer_id, key)
            _merge(found, providers)


class _RenamedHost:
    """A host on which Kademlia's protocol has another name."""

    def __init__(self, host: Any, name: str, *, reach: Reach) -> None:
        self._host = host
        self._name = name
        self._reach = reach

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._host, attribute)

    def set_stream_handler(self, protocol: str, accept: Any) -> None:
        self._host.set_stream_handler(self._renamed(protocol), accept)

    def remove_stream_handler(self, protocol: str) -> None:
        self._host.remove_stream_handler(self._renamed(protocol))

    async def new_stream(self, peer_id: Any, protocols: list[str]) -> Any:
        """A stream for one question, by our own dialer: stock dials one address and then gives up for a minute."""
        await self._reach(peer_id)
        stream = await self._host.new_stream(peer_id, [self._renamed(protocol) for protocol in protocols])
        return BoundedStream(stream, most=MAX_DHT_ANSWER_BYTES)

    def get_peerstore(self) -> Any:
        return _RenamedStore(self._host.get_peerstore(), self._name)

    def _renamed(self, protocol: str) -> str:
        return self._name if protocol == PROTOCOL_ID else protocol


class _RenamedStore:
    """A peerstore that shows the renamed protocol under the name that the routing table looks for."""

    def __init__(self, store: Any, name: str) -> None:
        self._store = store
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._store, attribute)

    def get_protocols(self, peer_id: Any) -> list[str]:
        known = self._store.get_protocols(peer_id)
        return [str(PROTOCOL_ID) if protocol == self._name else protocol for protocol in known]


def _merge(found: dict[PeerId, tuple[str, ...]], providers: list[Any]) -> None:
    for provider in providers:
        found.setdefault(PeerId(str(provider.peer_id)), tuple(str(address) for address in provider.addrs))
