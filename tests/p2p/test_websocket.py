"""Browsers' way in: WebSockets carry the same bytes as TCP, and strangers on it are held to the same limits."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio_websocket
from wsproto.frame_protocol import CloseReason

from core.job import PeerId
from p2p.browser_port import BrowserPort
from p2p.byte_stream import ByteStream
from p2p.libp2p_adapter.limits import ConnectionLimits, InboundCount
from p2p.libp2p_adapter.websocket import MAX_SMALL_MESSAGES, WebSocketBytes
from p2p.swarm_errors import PortInUse
from tests.p2p.swarms import Member, a_member, running, until

HELLO = b"\x13/multistream/1.0.0\n"


@asynccontextmanager
async def a_pair() -> AsyncIterator[tuple[WebSocketBytes, trio_websocket.WebSocketConnection]]:
    """Our end, accepted, and a client of another make, over a real socket."""
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(half)) for half in socket.socketpair())
    stream = WebSocketBytes(ours)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.accept)
            client = await trio_websocket.wrap_client_stream(nursery, theirs, "here", "/")
            yield stream, client
            nursery.cancel_scope.cancel()


async def test_bytes_go_both_ways_whatever_the_messages_edges() -> None:
    async with a_pair() as (stream, client):
        await client.send_message(b"abc")
        await client.send_message(b"defg")
        assert await stream.receive_some(2) == b"ab"
        received = await stream.receive_some()
        while len(received) < 5:
            received += await stream.receive_some()
        assert received == b"cdefg"
        await stream.send_all(b"x" * 100_000)
        assert await client.get_message() == b"x" * 100_000


async def test_a_ping_is_answered_while_reading() -> None:
    async with a_pair() as (stream, client), trio.open_nursery() as nursery:
        nursery.start_soon(stream.receive_some)
        await client.ping(b"there")
        await client.send_message(b"done")


async def test_a_polite_close_is_the_end_of_the_bytes() -> None:
    async with a_pair() as (stream, client), trio.open_nursery() as nursery:
        await client.send_message(b"last")
        nursery.start_soon(client.aclose, CloseReason.NORMAL_CLOSURE)
        assert await stream.receive_some() == b"last"
        assert await stream.receive_some() == b""
        await stream.aclose()


async def test_a_text_message_breaks_the_stream() -> None:
    async with a_pair() as (stream, client):
        await client.send_message("words")
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


@pytest.mark.parametrize("size", [0, 1, 15])
async def test_a_flood_of_tiny_messages_breaks_the_stream(size: int) -> None:
    async with a_pair() as (stream, client), trio.open_nursery() as nursery:
        nursery.start_soon(flood, client, bytes(size))
        with pytest.raises(trio.BrokenResourceError):
            while await stream.receive_some():
                continue
        nursery.cancel_scope.cancel()


async def flood(client: trio_websocket.WebSocketConnection, message: bytes) -> None:
    for _ in range(MAX_SMALL_MESSAGES + 1):
        await client.send_message(message)


async def test_small_messages_between_larger_ones_are_taken() -> None:
    async with a_pair() as (stream, client), trio.open_nursery() as nursery:
        received = bytearray()
        for _ in range(3):
            nursery.start_soon(flood_of_both, client)
            while len(received) < MAX_SMALL_MESSAGES * 32:
                received += await stream.receive_some()
            received.clear()


async def flood_of_both(client: trio_websocket.WebSocketConnection) -> None:
    for _ in range(MAX_SMALL_MESSAGES):
        await client.send_message(b"x")
        await client.send_message(bytes(31))


async def test_what_is_no_websocket_frame_ends_the_stream() -> None:
    async with a_pair() as (stream, client):
        await client._stream.send_all(b"\xff" * 64)
        assert await stream.receive_some() == b""


@asynccontextmanager
async def listening(*, limits: ConnectionLimits | None = None) -> AsyncIterator[tuple[Member, int]]:
    """A member that takes browsers too, and the port where it does."""
    member = a_member(1)
    member.swarm.beside(BrowserPort("127.0.0.1", 0).run)
    async with running(member):
        await until(lambda: any("/ws" in address for address in member.swarm.addresses()))
        address = next(address for address in member.swarm.addresses() if "/ws" in address)
        if limits is not None:
            network = member.swarm._host._host.get_network()  # type: ignore[union-attr]
            transport = next(t for t in network.transport_manager.get_transports() if hasattr(t, "_asking"))
            transport._asking = InboundCount(limits)
        yield member, int(address.split("/")[4])


async def test_behind_the_port_is_the_same_negotiation() -> None:
    async with listening() as (_, port), trio_websocket.open_websocket("127.0.0.1", port, "/", use_ssl=False) as client:
        await client.send_message(HELLO + b"\x07/noise\n")
        received = b""
        while not received.endswith(b"/noise\n"):
            said = await client.get_message()
            assert isinstance(said, bytes)
            received += said
        assert received == HELLO + b"\x07/noise\n"


async def bridge(port: int, *, task_status: trio.TaskStatus[str]) -> None:
    """What a browser does for its js-libp2p: bytes of a TCP connection in a WebSocket's messages, and back."""

    async def carry(stream: trio.SocketStream) -> None:
        opened = trio_websocket.open_websocket("127.0.0.1", port, "/", use_ssl=False)
        async with opened as client, trio.open_nursery() as nursery:
            nursery.start_soon(there, stream, client)
            try:
                while True:
                    await stream.send_all(bytes(await client.get_message()))  # type: ignore[arg-type]
            except (trio_websocket.ConnectionClosed, trio.BrokenResourceError):
                nursery.cancel_scope.cancel()

    async def there(stream: trio.SocketStream, client: trio_websocket.WebSocketConnection) -> None:
        async for received in stream:
            await client.send_message(bytes(received))

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(f"/ip4/127.0.0.1/tcp/{listeners[0].socket.getsockname()[1]}")
    await trio.serve_listeners(carry, listeners)


async def test_streams_of_any_length_go_through_it_whole() -> None:
    sent = bytes(range(256)) * 4_000
    stranger = a_member(2)

    async def echo(stream: ByteStream, peer: PeerId) -> None:
        while received := await stream.read():
            await stream.write(received)
        await stream.close()

    async with listening() as (member, port), running(stranger) as nursery:
        member.swarm.serve("/echo", echo)
        way = f"{await nursery.start(bridge, port)}/p2p/{member.peer_id}"
        stream = await stranger.swarm.open(member.peer_id, "/echo", addresses=(way,))
        back = bytearray()
        for start in range(0, len(sent), 100_000):
            await stream.write(sent[start : start + 100_000])
        await stream.close()
        while received := await stream.read():
            back += received
        assert bytes(back) == sent
        await stream.reset()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 100, HELLO, b"A" * 100_000])
async def test_whoever_does_not_ask_for_a_websocket_is_let_go_and_others_are_served(said: bytes) -> None:
    async with listening() as (_, port):
        stranger = await trio.open_tcp_stream("127.0.0.1", port)
        with trio.fail_after(2):
            try:
                await stranger.send_all(said)
                if said == HELLO:
                    await stranger.send_eof()
                while await stranger.receive_some():
                    continue
            except trio.BrokenResourceError:
                pass
        async with trio_websocket.open_websocket("127.0.0.1", port, "/", use_ssl=False):
            pass


async def test_one_address_may_not_hold_all_places_with_requests_that_it_never_ends() -> None:
    few = ConnectionLimits(per_ip=4, half_open_per_ip=2, loopback_factor=1)
    async with listening(limits=few) as (member, port):
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(5)]
        gone = 0
        with trio.fail_after(2):
            for stranger in silent[2:]:
                try:
                    gone += not await stranger.receive_some()
                except trio.BrokenResourceError:
                    gone += 1
        assert gone == 3
        assert member.swarm._host is not None
        assert member.swarm._host.metrics().refused_connections == 3


async def test_the_port_has_one_owner() -> None:
    async with listening() as (_, port):
        second = a_member(2)
        second.swarm.beside(BrowserPort("127.0.0.1", port).run)
        with pytest.raises((PortInUse, ExceptionGroup)) as caught:
            async with running(second):
                await trio.sleep_forever()
        assert "in use" in str(caught.value) or caught.group_contains(PortInUse)


async def test_browsers_addresses_come_after_those_that_every_peer_dials() -> None:
    async with listening() as (member, _):
        assert ["/ws" in address for address in member.swarm.addresses()] == [False, True]
