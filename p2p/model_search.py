"""Who gives away a model: those we are connected to are asked, and those whom the DHT names, few and not for long.

Believes no more of an answer than that its files make the hash that was asked for.
"""

from __future__ import annotations

import logging
from typing import Protocol

import msgspec
import trio

from core.job import PeerId
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.model_link import ModelLink
from p2p.model_messages import MODEL_PROTOCOL, ModelHere
from p2p.protocol_error import RemoteProtocolError
from p2p.swarm_errors import PeerUnreachable

MAX_ASKED = 32
OPEN_S = 15.0

log = logging.getLogger(__name__)


class Peers(Protocol):
    """What the search needs of the swarm."""

    @property
    def peer_id(self) -> PeerId:
        """Our id."""

    def peers(self) -> tuple[PeerId, ...]:
        """Who is connected."""

    async def open(self, peer_id: PeerId, protocol: str, *, addresses: tuple[str, ...] = ()) -> ByteStream:
        """A stream to this peer. Raises PeerUnreachable."""

    async def find_providers(self, key: bytes) -> list[tuple[PeerId, tuple[str, ...]]]:
        """Who published a provider record for this multihash."""


class FoundSource(msgspec.Struct, frozen=True):
    """A peer that says it gives the model away, and what it says of it."""

    peer: PeerId
    addresses: tuple[str, ...]
    model: ModelHere


def file_key(sha256: str) -> bytes:
    """The DHT key of a model's files: their own hash, as a SHA-256 multihash."""
    return b"\x12\x20" + bytes.fromhex(sha256)


class ModelSearch:
    """Looks for the sources of one model. Each look asks whom it has not asked before, and who was not there then."""

    def __init__(self, swarm: Peers, sha256: str) -> None:
        self._swarm = swarm
        self.sha256 = sha256
        self._refused: set[PeerId] = {swarm.peer_id}
        self._found: dict[PeerId, FoundSource] = {}

    @property
    def found(self) -> tuple[FoundSource, ...]:
        """Every source so far."""
        return tuple(self._found.values())

    async def look(self, *, deadline_s: float) -> tuple[FoundSource, ...]:
        """Every source that is known by the deadline."""
        with trio.move_on_after(deadline_s):
            async with trio.open_nursery() as nursery:
                asked: set[PeerId] = set()

                def ask_soon(peer: PeerId, addresses: tuple[str, ...]) -> None:
                    is_new = peer not in asked and peer not in self._refused and peer not in self._found
                    if is_new and len(asked) < MAX_ASKED:
                        asked.add(peer)
                        nursery.start_soon(self._ask, peer, addresses)

                for peer in self._swarm.peers():
                    ask_soon(peer, ())
                for peer, addresses in await self._swarm.find_providers(file_key(self.sha256)):
                    ask_soon(peer, addresses)
        return self.found

    async def _ask(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        try:
            with trio.fail_after(OPEN_S):
                stream = await self._swarm.open(peer, MODEL_PROTOCOL, addresses=addresses)
            try:
                answer = await ModelLink(stream).model(self.sha256)
            finally:
                await stream.reset()
        except (PeerUnreachable, StreamBroken, RemoteProtocolError, trio.TooSlowError) as error:
            log.debug("%s could not be asked for a model: %s", peer, error)
            return
        if isinstance(answer, ModelHere):
            self._found[peer] = FoundSource(peer, addresses, answer)
        elif not answer.retry_after_s:
            self._refused.add(peer)
