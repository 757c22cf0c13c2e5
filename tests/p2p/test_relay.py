"""Two peers that cannot dial each other meet through a relay, which carries what it cannot read, within its limits."""

from __future__ import annotations

import pytest
import trio
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb

from core.job import PeerId
from p2p.byte_stream import ByteStream
from p2p.libp2p_adapter import muxer
from p2p.libp2p_adapter.circuit_frames import receive_frame, send_frame
from p2p.libp2p_adapter.peer_host import PeerHost
from p2p.libp2p_adapter.relay import Relay
from p2p.path import Path
from p2p.relay_book import RelayBook, RelayLimits
from p2p.swarm_errors import PeerUnreachable
from tests.p2p.fakes import stream_pair
from tests.p2p.hosts import ECHO, a_host, identity, joined, running, says

PRIVATE, RELAY, STRANGER = 1, 2, 3


def a_relay(limits: RelayLimits = RelayLimits()) -> tuple[PeerHost, RelayBook]:  # noqa: B008
    book = RelayBook(limits)
    host = a_host(RELAY)
    host.serve_relay(book)
    return host, book


def relayed(host: PeerHost) -> list[str]:
    return [address for address in host.addresses() if "/p2p-circuit" in address]


async def reserved(private: PeerHost, relay: PeerHost) -> PeerId:
    await joined(private, relay, RELAY)
    await private.reserve(identity(RELAY).peer_id)
    return identity(PRIVATE).peer_id


async def test_a_peer_that_nobody_can_dial_is_reached_through_its_relay_and_both_say_so() -> None:
    private, stranger = a_host(PRIVATE), a_host(STRANGER)
    relay, book = a_relay()
    async with running(private, relay, stranger):
        peer = await reserved(private, relay)
        await stranger.connect(peer, relayed(private))
        stream = await stranger.open_stream(peer, ECHO)
        assert await says(stream, b"x" * 200_000) == b"x" * 200_000
        assert stranger.path_of(peer) is Path.RELAYED
        assert private.path_of(identity(STRANGER).peer_id) is Path.RELAYED
        assert stranger.path_of(identity(RELAY).peer_id) is Path.DIRECT
        counts = book.counts(trio.current_time())
        assert (counts.reservations, counts.circuits, counts.bytes_carried > 400_000) == (1, 1, True)


async def test_the_time_there_and_back_is_told_for_a_relayed_peer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muxer, "FIRST_PING_S", 0.05)
    private, stranger = a_host(PRIVATE), a_host(STRANGER)
    relay, _ = a_relay()
    async with running(private, relay, stranger):
        peer = await reserved(private, relay)
        await stranger.connect(peer, relayed(private))
        while not stranger.rtt_of(peer):
            await trio.sleep(0.01)


async def test_a_direct_address_that_answers_is_taken_before_a_relay() -> None:
    private, stranger = a_host(PRIVATE), a_host(STRANGER)
    relay, _ = a_relay()
    async with running(private, relay, stranger):
        peer = await reserved(private, relay)
        await stranger.connect(peer, private.addresses())
        assert stranger.path_of(peer) is Path.DIRECT


async def test_without_a_reservation_nobody_is_reached() -> None:
    private, stranger = a_host(PRIVATE), a_host(STRANGER)
    relay, book = a_relay()
    async with running(private, relay, stranger):
        await joined(private, relay, RELAY)
        address = f"{relay.addresses()[0]}/p2p-circuit/p2p/{identity(PRIVATE).peer_id}"
        with pytest.raises(PeerUnreachable):
            await stranger.connect(identity(PRIVATE).peer_id, [address])
        assert book.counts(trio.current_time()).refused == 1


async def test_a_full_relay_refuses_in_words() -> None:
    private = a_host(PRIVATE)
    relay, _ = a_relay(RelayLimits(reservations=0))
    async with running(private, relay):
        await joined(private, relay, RELAY)
        with pytest.raises(PeerUnreachable, match="reservation refused"):
            await private.reserve(identity(RELAY).peer_id)


async def test_a_circuit_ends_at_its_limit_of_bytes_and_everybody_else_is_still_served() -> None:
    private, stranger = a_host(PRIVATE), a_host(STRANGER)
    relay, book = a_relay(RelayLimits(circuit_bytes=100_000))
    async with running(private, relay, stranger):
        peer = await reserved(private, relay)
        await stranger.connect(peer, relayed(private))
        stream = await stranger.open_stream(peer, ECHO)
        with pytest.raises(Exception, match=r"stream|bytes|hung"), trio.fail_after(10):
            await says(stream, b"x" * 300_000)
            raise AssertionError("more was carried than the limit")
        await gone(stranger, peer)
        await stranger.connect(peer, relayed(private))
        assert await says(await stranger.open_stream(peer, ECHO), b"again") == b"again"
        assert book.counts(trio.current_time()).circuits_opened == 2


async def test_what_the_target_says_with_its_yes_reaches_the_source() -> None:
    """A peer that takes a circuit speaks at once, and its first bytes may come in one read with its answer."""
    near, asker = stream_pair()
    far, target = stream_pair()
    book = RelayBook(RelayLimits())
    source, reserved_peer = identity(STRANGER).peer_id, identity(PRIVATE).peer_id
    book.reserve(reserved_peer, ip="", now=trio.current_time())

    async def open_stream(peer: PeerId, protocol: str) -> ByteStream:
        return far

    asked = pb.HopMessage(type=pb.HopMessage.CONNECT)
    asked.peer.id = ID.from_base58(reserved_peer).to_bytes()
    yes = pb.StopMessage(type=pb.StopMessage.STATUS, status=pb.Status.OK).SerializeToString()
    await target.write(bytes([len(yes)]) + yes + b"hello")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Relay(book, open_stream=open_stream, seen_at=lambda peer: "").serve, near, source)
        await send_frame(asker, asked)
        answer = await receive_frame(asker, pb.HopMessage)
        assert (answer.status, await asker.read()) == (pb.Status.OK, b"hello")
        nursery.cancel_scope.cancel()


async def test_when_the_relay_goes_its_circuits_are_gone_too() -> None:
    private, stranger = a_host(PRIVATE), a_host(STRANGER)
    relay, _ = a_relay()
    async with running(private, stranger) as nursery:
        life = trio.CancelScope()
        nursery.start_soon(_live, life, relay)
        while not relay.addresses():
            await trio.sleep(0.01)
        peer = await reserved(private, relay)
        await stranger.connect(peer, relayed(private))
        life.cancel()
        await gone(stranger, peer)


async def gone(host: PeerHost, peer: PeerId) -> None:
    with trio.fail_after(5):
        while peer in host.connected():
            await trio.sleep(0.01)


async def _live(life: trio.CancelScope, host: PeerHost) -> None:
    with life:
        await host.run("127.0.0.1", 0)
