"""WebSockets for the swarm: what browsers can dial. Listens only; below it is our own TCP, above it the same Noise.

libp2p's own listener is not used: it never says who is calling (so no limit by address can hold), runs as a system task
whose fault ends the process, shares ports, and bounds neither the HTTP request's time nor a write's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from libp2p.abc import ITransport
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, Pong, Request
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from p2p.libp2p_adapter.limits import (
    READ_BYTES,
    UPGRADE_S,
    WRITE_S,
    ConnectionLimits,
    InboundCount,
    NewcomerRate,
)
from p2p.libp2p_adapter.tcp import Listener, Tcp, WholeWrites
from p2p.libp2p_adapter.traffic import Traffic

# No message of Noise is shorter than its tag; only the first few of a handshake are, and whoever wants to keep us busy.
SMALL_BYTES = 16
MAX_SMALL_MESSAGES = 256

log = logging.getLogger(__name__)


class WebSocketBytes:
    """The bytes inside a WebSocket's binary messages, as a trio stream: a message's edges mean nothing. Holds
    at most READ_BYTES, answers pings, and breaks at a text message, which no peer sends, or a flood of tiny ones."""

    def __init__(self, raw: trio.SocketStream) -> None:
        self.socket = raw.socket
        self._raw = raw
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._left = b""
        self._is_over = False
        self._small = 0
        self._sending = trio.Lock()

    async def accept(self) -> None:
        """Answer the HTTP request. Raises trio.BrokenResourceError when it is none for a WebSocket."""
        while True:
            for event in self._events():
                if isinstance(event, Request):
                    await self._send(AcceptConnection())
                    return
            if not await self._receive():
                raise trio.BrokenResourceError("the newcomer hung up")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Up to so many bytes; b"" when the peer closed. Raises trio.BrokenResourceError."""
        most = READ_BYTES if max_bytes is None else max_bytes
        while not self._left:
            self._left = await self._take_events()
            if not self._left and (self._is_over or not await self._receive()):
                return b""
        taken, self._left = self._left[:most], self._left[most:]
        return taken

    async def send_all(self, sent: bytes) -> None:
        """One binary message. Raises trio.BrokenResourceError."""
        await self._send(BytesMessage(data=bytes(sent)))

    async def aclose(self) -> None:
        """Close the socket; a peer that reads on sees an abrupt end, which the layers above have announced."""
        await self._raw.aclose()

    async def _take_events(self) -> bytes:
        """The bytes of the messages that have arrived."""
        arrived = bytearray()
        for event in self._events():
            match event:
                case BytesMessage(data=part):
                    self._weigh(len(part))
                    arrived += part
                case Ping():
                    self._weigh(0)
                    await self._send(event.response())
                case Pong():
                    self._weigh(0)
                case CloseConnection():
                    self._is_over = True
                case _:
                    raise trio.BrokenResourceError("the peer sends what is no binary message")
        return bytes(arrived)

    def _weigh(self, size: int) -> None:
        """Each message costs us alike, however little it brings: as many small ones as large ones, and a few more."""
        self._small = self._small + 1 if size < SMALL_BYTES else max(0, self._small - 1)
        if self._small > MAX_SMALL_MESSAGES:
            raise trio.BrokenResourceError("the peer sends too many tiny messages")

    def _events(self) -> list[Event]:
        try:
            return list(self._protocol.events())
        except RemoteProtocolError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def _receive(self) -> bool:
        """Feed the protocol from the socket; False at its end."""
        received = await self._raw.receive_some(READ_BYTES)
        try:
            self._protocol.receive_data(received or None)
        except (RemoteProtocolError, LocalProtocolError) as error:
            raise trio.BrokenResourceError(str(error)) from error
        return bool(received)

    async def _send(self, event: Event) -> None:
        """Shielded and bounded: half a frame on the wire would corrupt all that follows."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + WRITE_S):
            async with self._sending:
                try:
                    frame = self._protocol.send(event)
                except LocalProtocolError as error:
                    raise trio.BrokenResourceError("the WebSocket is closed") from error
                await self._raw.send_all(frame)
                return
        await trio.aclose_forcefully(self._raw)
        raise trio.BrokenResourceError("the peer takes no bytes")


class WebSocket(ITransport):  # type: ignore[misc]
    """The transport that libp2p asks for a listener. Never dials."""

    def __init__(self, tcp: Tcp, *, limits: ConnectionLimits, traffic: Traffic) -> None:
        self._tcp = tcp
        self._traffic = traffic
        self._asking = InboundCount(limits)
        self._newcomers = NewcomerRate(limits)

    async def dial(self, maddr: Multiaddr) -> Any:
        """Raises OpenConnectionError."""
        raise OpenConnectionError(f"{maddr} is for browsers")

    def can_dial(self, maddr: Multiaddr) -> bool:
        """No: every peer that listens for browsers listens on TCP too."""
        return False

    def can_listen(self, maddr: Multiaddr) -> bool:
        """Whether this is an IP's TCP port with a WebSocket on it."""
        return [protocol.name for protocol in maddr.protocols()][1:] == ["tcp", "ws"]

    def protocols(self) -> list[str]:
        """The names of what is listened for."""
        return ["ws"]

    def create_listener(self, handler_function: Callable[[Any], Awaitable[None]]) -> WebListener:
        """A listener that calls handler_function with each newcomer's stream, once its HTTP request is answered."""

        async def greet(newcomer: WholeWrites) -> None:
            stream = await self._upgraded(newcomer)
            await handler_function(WholeWrites(stream, self._traffic))

        return WebListener(greet, self._tcp.opened, traffic=self._traffic)

    async def _upgraded(self, newcomer: WholeWrites) -> Any:
        """Its WebSocketBytes, which are as good as a socket's. Bounded in time, and in how many from one address may be
        at it and how often. Raises trio.BrokenResourceError."""
        address = newcomer.get_remote_address()
        ip = address[0] if address else ""
        if not self._newcomers.admits(ip, now=trio.current_time()) or not self._asking.take(ip):
            self._traffic.refused_connections += 1
            raise trio.BrokenResourceError("too many newcomers of one address ask at once")
        try:
            stream = WebSocketBytes(newcomer.stream)
            with trio.fail_after(UPGRADE_S):
                await stream.accept()
            return stream
        finally:
            self._asking.established(ip)
            self._asking.release(ip)


class WebListener(Listener):
    """A TCP listener whose addresses say what is on top of it."""

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        """The addresses bound, with the real port."""
        return tuple(address.encapsulate(Multiaddr("/ws")) for address in super().get_addrs())


async def listen_for_browsers(network: Any, ips: Sequence[str], *, port: int) -> None:
    """Listen for WebSockets too, at these IP addresses. Raises PortInUse; an address that is gone is left out."""
    for ip in ips:
        await network.listen(Multiaddr(f"/ip{6 if ':' in ip else 4}/{ip}/tcp/{port}/ws"))
