"""A small blocking client of the control link, for the command line: execute a command, read the state, watch it.

Never holds state of its own beyond one link, and never waits without a deadline. The window has its own client.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from types import TracebackType
from typing import assert_never

from app import control_protocol as link
from app.lockfile import engine_address
from core.commands import Command, Reply
from core.framing import FrameDecoder, FramingError, encode_frame
from core.home import Home
from core.node_state import NodeState
from core.state import apply

RETRY_S = 0.05
READ_BYTES = 65_536
SILENCE_S = 30.0
SNAPSHOT_TIMEOUT_S = 10.0


class EngineNotRunning(Exception):
    """No engine of this home can be reached; the message is one sentence for the owner."""


class ControlLinkLost(Exception):
    """The engine closed the link or did not answer in time; the message is one sentence for the owner."""


class ControlClient:
    """One engine, as the command line sees it. Close it, or use it as a context manager."""

    def __init__(self, home: Home, frames: _Link) -> None:
        self._home = home
        self._frames = frames
        self._number = 0

    @classmethod
    def connect(cls, home: Home, timeout_s: float) -> ControlClient:
        """Reach the home's engine, waiting up to timeout_s for one that is starting. Raises EngineNotRunning."""
        return cls(home, _open_link(home, timeout_s))

    @property
    def engine_pid(self) -> int:
        """The engine's process id."""
        return self._frames.engine_pid

    def execute(self, command: Command, timeout_s: float) -> Reply:
        """Ask for one command and wait for its reply. Raises ControlLinkLost."""
        self._number += 1
        deadline = time.monotonic() + timeout_s
        self._frames.send(link.Execute(self._number, command), timeout_s)
        while True:
            try:
                frame = self._frames.receive(deadline - time.monotonic())
            except TimeoutError as error:
                raise ControlLinkLost("Starling did not answer in time.") from error
            if isinstance(frame, link.Answer) and frame.number == self._number:
                return frame.reply

    def snapshot(self) -> NodeState:
        """The state now, over a link of its own. Raises EngineNotRunning or ControlLinkLost."""
        with _open_link(self._home, SNAPSHOT_TIMEOUT_S) as frames:
            return _snapshot(frames).state

    def watch(self) -> Iterator[NodeState]:
        """The state now, then after every event, over a link of its own. Ends by raising ControlLinkLost."""
        with _open_link(self._home, SNAPSHOT_TIMEOUT_S) as frames:
            first = _snapshot(frames)
            sequence, state = first.sequence, first.state
            yield state
            while True:
                match frame := self._next(frames):
                    case link.Happened() if frame.sequence == sequence + 1:
                        sequence, state = frame.sequence, apply(state, frame.event)
                        yield state
                    case link.Happened() if frame.sequence > sequence + 1:
                        raise ControlLinkLost("Some news from Starling was missed. Run the command again.")
                    case link.Happened() | link.Snapshot() | link.Welcome() | link.Answer() | link.Goodbye():
                        continue
                    case _:
                        assert_never(frame)

    def close(self) -> None:
        """Let go of the link; the engine runs on."""
        self._frames.close()

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self, frames: _Link) -> link.EngineFrame:
        """An engine with nothing to tell is silent: after each silence, look whether it still runs."""
        while True:
            try:
                return frames.receive(SILENCE_S)
            except TimeoutError:
                if engine_address(self._home) is None:
                    raise ControlLinkLost("Starling stopped.") from None


class _Link:
    """One connection, past its hello."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._decoder: FrameDecoder[link.EngineFrame] = FrameDecoder(
            link.EngineFrame, max_frame_bytes=link.MAX_ENGINE_FRAME_BYTES
        )
        self._frames: list[link.EngineFrame] = []
        self.engine_pid = 0

    def hello(self, token: str) -> None:
        """Say who we are and wait for the welcome."""
        self.send(link.Hello(token), link.HELLO_TIMEOUT_S)
        frame = self.receive(link.HELLO_TIMEOUT_S)
        if not isinstance(frame, link.Welcome):
            raise ControlLinkLost("The engine did not welcome this client.")
        if frame.version != link.VERSION:
            raise ControlLinkLost("The running Starling is of another version. Quit it, then try again.")
        self.engine_pid = frame.engine_pid

    def send(self, frame: link.ClientFrame, timeout_s: float) -> None:
        self._socket.settimeout(max(0.001, timeout_s))
        try:
            self._socket.sendall(encode_frame(frame))
        except OSError as error:
            raise ControlLinkLost("The link to Starling broke.") from error

    def receive(self, timeout_s: float) -> link.EngineFrame:
        """The next frame. Raises TimeoutError when nothing came, ControlLinkLost when nothing can come."""
        deadline = time.monotonic() + timeout_s
        while not self._frames:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            self._frames = self._read()
        frame = self._frames.pop(0)
        if isinstance(frame, link.Goodbye):
            raise ControlLinkLost(frame.reason)
        return frame

    def _read(self) -> list[link.EngineFrame]:
        try:
            received = self._socket.recv(READ_BYTES)
            if not received:
                raise ControlLinkLost("Starling closed the link.")
            return self._decoder.feed(received)
        except TimeoutError:
            raise
        except (OSError, FramingError) as error:
            raise ControlLinkLost("The link to Starling broke.") from error

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> _Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _snapshot(frames: _Link) -> link.Snapshot:
    frames.send(link.Watch(), SNAPSHOT_TIMEOUT_S)
    deadline = time.monotonic() + SNAPSHOT_TIMEOUT_S
    while True:
        try:
            frame = frames.receive(deadline - time.monotonic())
        except TimeoutError as error:
            raise ControlLinkLost("Starling did not tell its state in time.") from error
        if isinstance(frame, link.Snapshot):
            return frame


def _open_link(home: Home, timeout_s: float) -> _Link:
    """Try until the deadline: an engine that is starting has no address yet."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return _try_link(home)
        except (EngineNotRunning, ControlLinkLost) as error:
            if time.monotonic() >= deadline:
                raise EngineNotRunning(str(error)) from error
            time.sleep(RETRY_S)


def _try_link(home: Home) -> _Link:
    address = engine_address(home)
    if address is None:
        raise EngineNotRunning(f"Starling does not run in {home.folder}. Start it with `starling`.")
    try:
        token = home.control_token.read_text(encoding="utf-8").strip()
        frames = _Link(_dial(address))
    except OSError as error:
        raise EngineNotRunning("Starling runs, but its control link cannot be opened.") from error
    try:
        frames.hello(token)
    except TimeoutError as error:
        frames.close()
        raise ControlLinkLost("Starling runs, but did not answer in time.") from error
    except ControlLinkLost:
        frames.close()
        raise
    return frames


def _dial(address: str) -> socket.socket:
    if address.startswith("tcp:"):
        _, host, port = address.split(":")
        return socket.create_connection((host, int(port)), timeout=link.HELLO_TIMEOUT_S)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(link.HELLO_TIMEOUT_S)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection
