"""TCP for the swarm: one owner of a port, sockets that notice a dead peer, and writes that are never torn.

Replaces libp2p's listener (it shares ports between processes by SO_REUSEPORT) and its bare stream (a cancelled write
leaves half a frame on the wire).
"""

from __future__ import annotations

import errno
import logging
import socket
import sys
from typing import Any
from weakref import WeakSet

import trio
from libp2p.abc import IListener
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.tcp.tcp import TCP
from libp2p.utils.multiaddr_utils import extract_ip_from_multiaddr, multiaddr_from_socket
from multiaddr import Multiaddr

from p2p.libp2p_adapter.limits import DIAL_S, KEEPALIVE_IDLE_S, MAX_HANDSHAKE_BYTES, READ_BYTES, TCP_DEAD_S, WRITE_S
from p2p.libp2p_adapter.traffic import Traffic
from p2p.swarm_errors import PortInUse

BACKLOG = 128
PROVEN_READ_BYTES = 256 << 10

log = logging.getLogger(__name__)


class WholeWrites(TrioTCPStream):  # type: ignore[misc]
    """A TCP stream whose writes finish or kill the connection; a caller's cancellation waits for that.

    Until lift() it is a stranger's, and may bring only a handshake.
    """

    def __init__(self, stream: trio.SocketStream, traffic: Traffic) -> None:
        super().__init__(stream)
        self._traffic = traffic
        self._left = MAX_HANDSHAKE_BYTES
        self._is_proven = False
        self._at_once = READ_BYTES
        self._remote: tuple[str, int] | None = None

    def lift(self) -> None:
        """The peer has proven who it is: what it sends is bounded above this, by stream and connection."""
        self._is_proven = True
        self._at_once = PROVEN_READ_BYTES

    async def read(self, n: int | None = None) -> bytes:
        """Stock asks the system for as many bytes as the other side announced, whoever it is."""
        received = bytes(await super().read(self._at_once if n is None else min(n, self._at_once)))
        self._traffic.bytes_in += len(received)
        if self._is_proven:
            return received
        self._left -= len(received)
        if self._left < 0:
            raise ConnectionClosedError("the handshake is too long", transport="tcp")
        return received

    def get_remote_address(self) -> tuple[str, int] | None:
        """Stock: an IPv6 peer has no address, so that all of them count as one."""
        if self._remote is None:
            try:
                host, port = self.stream.socket.getpeername()[:2]
            except OSError:  # it is gone already
                return None
            self._remote = (str(host).partition("%")[0], int(port))
        return self._remote

    async def write(self, data: bytes) -> None:
        """Raises ConnectionClosedError when the peer does not take the bytes in time."""
        self._traffic.bytes_out += len(data)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + WRITE_S):
            await super().write(data)
            return
        await trio.aclose_forcefully(self.stream)
        raise ConnectionClosedError("the peer takes no bytes", transport="tcp")


class Tcp(TCP):  # type: ignore[misc]
    """libp2p's TCP transport with our listener and our sockets, all of which it can close."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self._traffic = traffic
        self._open: WeakSet[trio.SocketStream | trio.SocketListener] = WeakSet()

    @property
    def opened(self) -> WeakSet[trio.SocketStream | trio.SocketListener]:
        """Every socket that close_all closes."""
        return self._open

    async def _dial_resolved(self, maddr: Multiaddr, source: tuple[str, int] | None = None) -> RawConnection:
        with trio.fail_after(DIAL_S):
            raw = await super()._dial_resolved(maddr, source)
        self._open.add(raw.stream.stream)
        raw.stream = _hardened(raw.stream.stream, self._traffic)
        return raw

    def create_listener(self, handler_function: Any) -> Listener:
        """A listener that calls handler_function with each newcomer's stream."""
        return Listener(handler_function, self._open, traffic=self._traffic)

    def close_all(self) -> None:
        """Close every socket, at once."""
        for opened in tuple(self._open):
            opened.socket.close()


class Listener(IListener):  # type: ignore[misc]
    """One listening socket, owned alone. The swarm sets background_nursery before it calls listen."""

    def __init__(
        self, accept: Any, opened: WeakSet[trio.SocketStream | trio.SocketListener], *, traffic: Traffic
    ) -> None:
        self._accept = accept
        self._traffic = traffic
        self._open = opened
        self._sockets: list[trio.SocketListener] = []
        self._scope = trio.CancelScope()
        self.background_nursery: trio.Nursery | None = None

    async def listen(self, maddr: Multiaddr) -> None:
        """Bind and serve in the background. Raises PortInUse, OSError."""
        host, port = extract_ip_from_multiaddr(maddr), int(maddr.value_for_protocol("tcp"))
        if self.background_nursery is None:
            raise RuntimeError("the swarm is not running")
        try:
            self._sockets = list(await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(port) from error
            raise
        for listener in self._sockets:
            _let_dials_share(listener.socket)
        self._open.update(self._sockets)
        await self.background_nursery.start(self._serve)

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        """The addresses bound, with the real port."""
        is_open = [listener.socket for listener in self._sockets if listener.socket.fileno() >= 0]
        return tuple(map(multiaddr_from_socket, is_open))

    async def close(self) -> None:
        """Stop accepting; connections live on with their own owner."""
        self._scope.cancel()
        for listener in self._sockets:
            await trio.aclose_forcefully(listener)
        self._sockets.clear()

    async def _serve(self, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        with self._scope:
            await trio.serve_listeners(self._greet, self._sockets, task_status=task_status)

    async def _greet(self, stream: trio.SocketStream) -> None:
        self._open.add(stream)
        try:
            await self._accept(_hardened(stream, self._traffic))
        except Exception as error:  # noqa: BLE001  a newcomer's fault must not end the listener
            log.debug("a newcomer failed: %s", type(error).__name__)


def _let_dials_share(listening: trio.socket.SocketType) -> None:
    """Our own dials may leave from this port, as hole punching needs. Set after binding, so that binding was exclusive:
    a second process that wants to listen here doesn't set it before it binds, and is refused."""
    if hasattr(socket, "SO_REUSEPORT"):
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _hardened(stream: trio.SocketStream, traffic: Traffic) -> WholeWrites:
    """Set what the kernel can do to notice a dead peer: TCP_USER_TIMEOUT and keepalive."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    if sys.platform == "linux":
        options += [
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_IDLE_S // 2),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * TCP_DEAD_S)),
        ]
    for level, option, value in options:
        try:
            stream.setsockopt(level, option, value)
        except OSError:  # the peer is gone already, or the system lacks the option
            break
    return WholeWrites(stream, traffic)
