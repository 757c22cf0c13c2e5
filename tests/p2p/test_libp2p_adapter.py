"""Each stock fault of libp2p 0.8.1 that the adapter repairs: the fault where it is quick to show, and the repair."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
from libp2p import new_host
from libp2p.network.config import ConnectionConfig
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from core.job import PeerId
from p2p.byte_stream import StreamBroken
from p2p.libp2p_adapter import self_test
from p2p.libp2p_adapter.interfaces import listen_addresses
from p2p.libp2p_adapter.limits import ConnectionLimits, InboundCount
from p2p.libp2p_adapter.peer_host import PeerHost
from p2p.swarm_errors import LibraryChanged, PeerUnreachable, PortInUse
from tests.p2p.hosts import BREAK, a_host, connection, identity, is_alive, joined, running


def stock(**options: Any) -> Any:
    return new_host(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")], **options)


async def send_garbage(host: PeerHost, peer: PeerId) -> None:
    muxed = await connection(host).open_stream()
    await muxed.write(b"\x13/multistream/1.0.0\n")
    await muxed.write(b"\x05\xff\xfe\xfd\xfc\n")
    await trio.sleep(0.2)


async def test_stock_a_line_that_is_no_utf8_ends_the_whole_host() -> None:
    victim, attacker = stock(), a_host(1)
    with pytest.raises(BaseExceptionGroup):  # noqa: PT012
        async with running(attacker), victim.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
            await attacker.connect(PeerId(str(victim.get_id())), [str(a) for a in victim.get_addrs()])
            await send_garbage(attacker, PeerId(str(victim.get_id())))
            await trio.sleep(1)


async def test_garbage_on_a_stream_ends_that_stream_only() -> None:
    victim, attacker, other = a_host(1), a_host(2), a_host(3)
    async with running(victim, attacker, other):
        peer = await joined(attacker, victim, 1)
        for _ in range(3):
            await send_garbage(attacker, peer)
        assert await is_alive(attacker, victim, 1)
        assert await is_alive(other, victim, 1)


async def test_garbage_on_a_socket_ends_that_socket_only() -> None:
    victim, other = a_host(1), a_host(2)
    async with running(victim, other):
        port = int(victim.addresses()[0].split("/")[4])
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b"\x13/multistream/1.0.0\n\x03\xff\xff\n", b""):
            raw = await trio.open_tcp_stream("127.0.0.1", port)
            await raw.send_all(garbage)
            await raw.aclose()
        assert await is_alive(other, victim, 1)


async def test_a_stream_whose_acceptor_fails_ends_that_stream_only() -> None:
    victim, other = a_host(1), a_host(2)
    async with running(victim, other):
        peer = await joined(other, victim, 1)
        stream = await other.open_stream(peer, BREAK)
        await stream.write(b"x")
        with trio.fail_after(5):
            try:
                assert await stream.read() == b""
            except StreamBroken:
                pass
        assert await is_alive(other, victim, 1)


async def test_stock_refuses_newcomers_once_all_slots_were_used() -> None:
    config = ConnectionConfig(max_connections=2, min_connections=0, low_watermark=0, high_watermark=2)
    victim = stock(connection_config=config)
    async with victim.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        peer, addresses = PeerId(str(victim.get_id())), [str(a) for a in victim.get_addrs()]
        refused = 0
        for number in range(1, 5):
            async with running(guest := a_host(number)):
                try:
                    await guest.connect(peer, addresses)
                except PeerUnreachable:
                    refused += 1
        assert refused == 2


async def test_slots_are_released_when_a_connection_ends() -> None:
    victim = a_host(1, limits=ConnectionLimits(total=2))
    async with running(victim):
        for number in range(2, 8):
            async with running(guest := a_host(number)):
                assert await is_alive(guest, victim, 1)
            with trio.fail_after(5):
                while victim._host.get_network()._inbound.total or victim.connected():
                    await trio.sleep(0.01)


def test_one_address_cannot_take_all_slots() -> None:
    count = InboundCount(ConnectionLimits(total=10, per_ip=4, half_open_per_ip=2))
    assert [count.take("192.0.2.1") for _ in range(3)] == [True, True, False]
    count.established("192.0.2.1")
    count.established("192.0.2.1")
    assert [count.take("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert count.take("192.0.2.2")
    for _ in range(4):
        count.release("192.0.2.1")
    count.established("192.0.2.1")
    assert count.take("192.0.2.1")
    assert sum(count.take("127.0.0.1") for _ in range(20)) == 8


async def test_stock_takes_a_peer_without_encryption_and_we_do_not() -> None:
    plain = stock(sec_opt={"/plaintext/2.0.0": plaintext()})
    victim = stock()
    ours = a_host(1)
    somewhere = [Multiaddr("/ip4/127.0.0.1/tcp/0")]
    async with running(ours), plain.run(somewhere), victim.run(somewhere):
        await plain.connect(info_from_p2p_addr(victim.get_addrs()[0]))
        with pytest.raises(Exception, match="unable to connect"):
            await plain.connect(info_from_p2p_addr(Multiaddr(ours.addresses()[0])))


def plaintext() -> Any:
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.security.insecure.transport import InsecureTransport

    return InsecureTransport(create_new_key_pair(b"\x09" * 32))


async def test_a_dial_ends_with_its_first_connection() -> None:
    """Stock waits 250 ms more; ours takes 10 to 20."""
    took = []
    async with running(one := a_host(1)):
        for number in range(2, 6):
            async with running(other := a_host(number)):
                began = time.perf_counter()
                await joined(other, one, 1)
                took.append(time.perf_counter() - began)
    assert min(took) < 0.15


async def test_a_wildcard_listens_where_others_can_dial() -> None:
    host = a_host(1)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run, "0.0.0.0", 0)
            assert host.addresses()
            assert not any("/0.0.0.0/" in address for address in host.addresses())
            nursery.cancel_scope.cancel()
    assert listen_addresses("192.0.2.7") == ["192.0.2.7"]


async def test_two_peers_hold_one_connection() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other), trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(joined, one, other, 2)
    assert one.connected() in ((identity(2).peer_id,), ())


async def test_stock_shares_a_port_and_we_name_it() -> None:
    first, second, ours = stock(), stock(), a_host(1)
    async with first.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        taken = first.get_addrs()[0]
        port = int(taken.value_for_protocol("tcp"))
        async with second.run([Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")]):
            assert second.get_addrs()
        with pytest.raises(PortInUse) as caught:
            await ours.run("127.0.0.1", port)
        assert caught.value.port == port


async def test_a_host_that_is_cancelled_leaves_no_port_and_no_peer_behind() -> None:
    other = a_host(2)
    async with running(other):
        async with running(one := a_host(1)):
            await joined(one, other, 2)
            port = int(one.addresses()[0].split("/")[4])
        with trio.fail_after(2):
            while other.connected():
                await trio.sleep(0.01)
        async with running(other_again := a_host(1)), trio.open_nursery() as nursery:
            await nursery.start(a_host(3).run, "127.0.0.1", port)
            assert await is_alive(other_again, other, 2)
            nursery.cancel_scope.cancel()


async def test_nobody_is_dialled_unasked() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        info = info_from_p2p_addr(Multiaddr(other.addresses()[0]))
        one._host.get_peerstore().add_addrs(info.peer_id, info.addrs, 100)
        await one._host.get_network().auto_connector.maybe_connect()
        await trio.sleep(0.3)
        assert one.connected() == ()


async def test_two_networks_never_share_a_record() -> None:
    one, other, stranger = a_host(1, network="a"), a_host(2, network="a"), a_host(3, network="b")
    key = b"\x12\x20" + b"k" * 32
    async with running(one, other, stranger):
        await joined(one, other, 2)
        await joined(stranger, other, 2)
        assert await one.provide(key)
        assert [peer for peer, _ in await other.find_providers(key)] == [identity(1).peer_id]
        assert await stranger.find_providers(key) == []
        assert "/ipfs/kad/1.0.0" not in one._host.get_mux().get_protocols()


async def test_a_peer_is_dialled_at_every_address_it_has() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        dead = "/ip4/127.0.0.1/tcp/1"
        odd = ("no address", "/dns4/example.invalid/tcp/1", "/ip4/127.0.0.1/udp/1/quic-v1")
        await one.connect(identity(2).peer_id, (*odd, dead, dead, *other.addresses()))
        assert await is_alive(one, other, 2)


async def test_a_peer_with_another_key_is_not_the_peer() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        address = other.addresses()[0].rpartition("/p2p/")[0]
        with pytest.raises(PeerUnreachable):
            await one.connect(identity(3).peer_id, (address,))


def test_another_library_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    self_test.check_library()
    monkeypatch.setattr(self_test, "VERSION", "9.9.9")
    with pytest.raises(LibraryChanged, match="needs libp2p 9.9.9"):
        self_test.check_library()
    monkeypatch.undo()
    monkeypatch.setattr(self_test, "REPLACED", ((PeerHost, ("gone",)),))
    with pytest.raises(LibraryChanged, match="PeerHost.gone"):
        self_test.check_library()
