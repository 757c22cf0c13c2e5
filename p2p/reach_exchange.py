"""Finding out whether strangers can dial us, and dialling back for others: the three ends of the reach protocol.

What it decides is in p2p.reach. Never has a peer dialled where it isn't seen, never dials twice for one question.
"""

from __future__ import annotations

import logging
import random
import secrets

import msgspec
import trio

from core.framing import encode_frame
from core.job import PeerId
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.libp2p_adapter.peer_host import PeerHost
from p2p.one_message import receive_message
from p2p.path import Path
from p2p.protocol_error import RemoteProtocolError
from p2p.reach import (
    DialBackLimit,
    Standing,
    address_fault,
    after_failed,
    after_reached,
    after_seen,
    dial_back_addresses,
    is_public,
    needs_relay,
    recheck_after_s,
    seen_addresses,
    third_peers,
)
from p2p.reach_messages import (
    MAX_FRAME_BYTES,
    REACH_PROTOCOL,
    Checked,
    CheckReach,
    DialBack,
    Dialled,
    Reached,
    ReachQuestion,
)
from p2p.swarm import Swarm
from p2p.swarm_errors import PeerUnreachable

FIRST_FRAME_S = 5.0
DIALLED_S = 20.0
CHECKED_S = 45.0
HANG_UP_S = 2.0
LATE_NONCE_S = 0.5
MAX_HELPERS = 3
MAX_THIRD_PEERS = 3
POLL_S = 1.0

log = logging.getLogger(__name__)


class _Nonce:
    """A nonce that only a stranger may bring: whoever was connected when it was made is none."""

    def __init__(self, connected: tuple[PeerId, ...]) -> None:
        self.connected = frozenset(connected)
        self.heard_at = ""
        self.heard = trio.Event()


class ReachExchange:
    """One swarm's knowledge of its own reachability. Make it before the swarm runs."""

    def __init__(self, swarm: Swarm) -> None:
        self.standing = Standing()
        self._host: PeerHost | None = None
        self._nonces: dict[str, _Nonce] = {}
        self._limit = DialBackLimit()
        swarm.serve(REACH_PROTOCOL, self.serve)
        swarm.beside(self.run)

    def needs_relay(self) -> bool:
        """Whether strangers need a relay to reach us."""
        own = [ip for ip, _ in self._host.listens_at()] if self._host is not None else []
        return needs_relay(self.standing, own)

    async def run(self, host: PeerHost) -> None:
        """Look now and then, and whenever we have lost all peers and met some again, until cancelled."""
        self._host = host
        try:
            tries = 0
            while True:
                await _some_peer(host)
                before = self.standing
                await self._check(host)
                tries = tries + 1 if self.standing.reachability is before.reachability else 0
                if self.standing.addresses != before.addresses:
                    host.set_public(self.standing.addresses)
                with trio.move_on_after(recheck_after_s(self.standing, tries)):
                    await _no_peer(host)
        finally:
            self._host, self.standing = None, Standing()

    async def serve(self, stream: ByteStream, peer: PeerId) -> None:
        """Answer the one question of this stream."""
        host = self._host
        if host is None:
            return
        try:
            question = await receive_message(stream, ReachQuestion, most=MAX_FRAME_BYTES, within_s=FIRST_FRAME_S)
            answer = await self._answer(host, question, peer=peer)
            if answer is not None:
                await stream.write(encode_frame(answer))
            await stream.close()
            with trio.move_on_after(HANG_UP_S):
                await stream.read()
        except (StreamBroken, RemoteProtocolError) as error:
            log.debug("a reach question of %s ended: %s", peer, error)

    async def _answer(self, host: PeerHost, question: ReachQuestion, *, peer: PeerId) -> Checked | Dialled | None:
        match question:
            case CheckReach():
                return await self._have_checked(host, question, peer=peer)
            case DialBack():
                return await self._dial_back(host, question, peer=peer)
            case Reached():
                self._hear(host, question, peer=peer)
                return None

    async def _check(self, host: PeerHost) -> None:
        """Ask one peer after another until one had us dialled."""
        helpers = [peer for peer in host.connected() if host.path_of(peer) is Path.DIRECT]
        ports = tuple(dict.fromkeys(port for _, port in host.listens_at()))[:3]
        for helper in random.sample(helpers, min(MAX_HELPERS, len(helpers))):
            if not self.standing.seen:
                await self._look(host, helper)
            text = secrets.token_hex(16)
            nonce = self._nonces[text] = _Nonce(host.connected())
            try:
                answer = await _ask(host, helper, question=CheckReach(text, ports), kind=Checked, within_s=CHECKED_S)
                if not isinstance(answer, Checked):
                    continue
                self._see(host, answer)
                if self._conclude(
                    answer, nonce, was_heard=await _late(nonce, answer)
                ):
                    return
            finally:
                del self._nonces[text]

    async def _look(self, host: PeerHost, helper: PeerId) -> None:
        """Where this peer sees us: answered at once, without anybody dialling."""
        asked = CheckReach(secrets.token_hex(16), ())
        answer = await _ask(host, helper, question=asked, kind=Checked, within_s=FIRST_FRAME_S)
        if isinstance(answer, Checked):
            self._see(host, answer)

    def _see(self, host: PeerHost, answer: Checked) -> None:
        try:
            self.standing = after_seen(self.standing, ip=answer.ip, port=answer.port)
        except ValueError:
            return
        ports = [port for _, port in host.listens_at()][:1]
        host.set_seen(seen_addresses(self.standing, ports))

    def _conclude(self, answer: Checked, nonce: _Nonce, *, was_heard: bool) -> bool:
        """What this answer changes; False when nobody has dialled us."""
        if was_heard and answer.ip in nonce.heard_at.split("/"):
            self.standing = after_reached(self.standing, nonce.heard_at)
        elif answer.was_tried:
            self.standing = after_failed(self.standing)
        return was_heard or answer.was_tried

    def _hear(self, host: PeerHost, said: Reached, *, peer: PeerId) -> None:
        nonce, where = self._nonces.get(said.nonce), host.seen_at(peer)
        if nonce is None or where is None or peer in nonce.connected:
            return
        if is_public(where[0]) and host.has_dialled(where[0]):
            return
        nonce.heard_at = said.address
        nonce.heard.set()

    async def _have_checked(self, host: PeerHost, asked: CheckReach, *, peer: PeerId) -> Checked | None:
        """Find a third peer who dials the asker."""
        where = host.seen_at(peer)
        if where is None or not self._limit.may_check(peer, now=trio.current_time()):
            return None
        if not asked.ports:
            return Checked(where[0], where[1], was_tried=False)
        ip_of = {other: seen[0] for other in host.connected() if (seen := host.seen_at(other)) is not None}
        thirds = third_peers(host.connected(), ip_of=ip_of, asker=peer)
        addresses = dial_back_addresses(where[0], asked.ports, seen_port=where[1])
        question = DialBack(peer, addresses, asked.nonce)
        for third in random.sample(thirds, min(MAX_THIRD_PEERS, len(thirds))):
            answer = await _ask(host, third, question=question, kind=Dialled, within_s=DIALLED_S)
            if isinstance(answer, Dialled) and answer.was_tried:
                return Checked(where[0], where[1], was_tried=True)
        return Checked(where[0], where[1], was_tried=False)

    async def _dial_back(self, host: PeerHost, asked: DialBack, *, peer: PeerId) -> Dialled:
        """Dial somebody once for a peer that asks, and say the nonce there."""
        target, helper = PeerId(asked.peer_id), host.seen_at(peer)
        fault = "only who is connected directly may ask" if helper is None else None
        fault = fault or address_fault(asked.addresses, asker_ip=helper[0] if helper else "")
        if fault is None and target in host.connected():
            fault = "the peer is no stranger here"
        if fault is None and not self._limit.may_dial(asked.addresses[0].split("/")[2], now=trio.current_time()):
            fault = "too many dials were asked for"
        if fault is not None:
            return Dialled(was_tried=False, fault=fault)
        return await _dialled(host, target, asked=asked)


async def _dialled(host: PeerHost, target: PeerId, *, asked: DialBack) -> Dialled:
    try:
        if not await host.dial_once(target, asked.addresses):
            return Dialled(was_tried=True, fault="nobody answers there")
        where = host.seen_at(target)
        address = f"/ip{6 if ':' in where[0] else 4}/{where[0]}/tcp/{where[1]}" if where is not None else ""
        await _ask(host, target, question=Reached(asked.nonce, address), kind=None, within_s=HANG_UP_S)
        await host.disconnect(target)
    except PeerUnreachable as error:
        return Dialled(was_tried=False, fault=str(error)[:200])
    return Dialled(was_tried=True, address=address)


async def _ask(
    host: PeerHost, peer: PeerId, *, question: msgspec.Struct, kind: type[Checked | Dialled] | None, within_s: float
) -> Checked | Dialled | None:
    """The answer, or None; never raises for what the peer does. kind: None waits for the end of its writing."""
    try:
        stream = await host.open_stream(peer, REACH_PROTOCOL)
    except PeerUnreachable:
        return None
    try:
        await stream.write(encode_frame(question))
        await stream.close()
        if kind is None:
            with trio.move_on_after(within_s):
                await stream.read()
            return None
        answer: Checked | Dialled = await receive_message(stream, kind, most=MAX_FRAME_BYTES, within_s=within_s)
        return answer
    except (StreamBroken, RemoteProtocolError) as error:
        log.debug("%s did not answer about reach: %s", peer, error)
        return None
    finally:
        await stream.reset()


async def _late(nonce: _Nonce, answer: Checked) -> bool:
    """Whether the nonce was heard; it may come a moment after the answer that says it was brought."""
    with trio.move_on_after(LATE_NONCE_S if answer.was_tried else 0.0):
        await nonce.heard.wait()
    return nonce.heard.is_set()


async def _some_peer(host: PeerHost) -> None:
    while not host.connected():
        with trio.move_on_after(POLL_S):
            await host.wait_change()


async def _no_peer(host: PeerHost) -> None:
    while host.connected():
        await host.wait_change()
