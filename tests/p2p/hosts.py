"""libp2p hosts of ours on loopback, for the tests of the adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from core.job import PeerId
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.identity import Identity
from p2p.libp2p_adapter.limits import ConnectionLimits
from p2p.libp2p_adapter.peer_host import PeerHost

ECHO = "/test/echo"
BREAK = "/test/break"
HOLD = "/test/hold"
LIMITS = ConnectionLimits()


def identity(number: int) -> Identity:
    return Identity(bytes([number]) * 32)


def a_host(number: int, *, network: str = "test", limits: ConnectionLimits = LIMITS) -> PeerHost:
    host = PeerHost(identity(number).seed, network=network, limits=limits)
    host.accept(ECHO, echo)
    host.accept(BREAK, fail)
    host.accept(HOLD, hold)
    return host


async def echo(stream: ByteStream, peer: PeerId) -> None:
    while received := await stream.read():
        await stream.write(received)
    await stream.close()


async def fail(stream: ByteStream, peer: PeerId) -> None:
    await stream.read()
    raise ZeroDivisionError


async def hold(stream: ByteStream, peer: PeerId) -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def running(*hosts: PeerHost) -> AsyncIterator[trio.Nursery]:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for host in hosts:
                await nursery.start(host.run, "127.0.0.1", 0)
            yield nursery
            nursery.cancel_scope.cancel()


async def joined(one: PeerHost, other: PeerHost, number: int) -> PeerId:
    peer = identity(number).peer_id
    await one.connect(peer, other.addresses())
    return peer


async def says(stream: ByteStream, text: bytes) -> bytes:
    await stream.write(text)
    answer = b""
    while len(answer) < len(text):
        received = await stream.read()
        if not received:
            raise StreamBroken("The stream ended before all of the echo had come.")
        answer += received
    return answer


async def is_alive(asker: PeerHost, host: PeerHost, number: int) -> bool:
    peer = await joined(asker, host, number)
    stream = await asker.open_stream(peer, ECHO)
    answer = await says(stream, b"still here")
    await stream.reset()
    return answer == b"still here"


def connection(host: PeerHost) -> Any:
    """The muxed connection of a host that has one."""
    ((conn,),) = host._host.get_network().connections.values()
    return conn.muxed_conn
