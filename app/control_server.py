"""The engine's end of the control link: a local socket that takes commands and tells what happens.

Never carries a key, a prompt or an answer. A client that sends anything malformed, or falls behind, is closed; a
command that it has given is carried out all the same.
"""

from __future__ import annotations

import hmac
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import assert_never

import trio

from app import control_protocol as link
from core.commands import Command, Refused, Reply
from core.framing import FrameDecoder, FramingError, encode_frame
from core.journal import Journal

MAX_CLIENTS = 16
MAX_COMMANDS = 8
OUTBOX_FRAMES = 256
SEND_TIMEOUT_S = 10.0
READ_BYTES = 65_536

CLIENT_FAULTS = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, FramingError)

Executor = Callable[[Command], Awaitable[Reply]]


class ControlServer:
    """Serves clients until cancelled. execute is the engine's; journal is what there is to watch."""

    def __init__(self, journal: Journal, execute: Executor, *, token: str) -> None:
        self._journal = journal
        self._execute = execute
        self._token = token
        self._clients = 0

    async def run(self, listener: trio.SocketListener) -> None:
        """Accept clients for ever. Commands outlive their clients: half a Leave would be worse than none."""
        async with trio.open_nursery() as commands:
            await trio.serve_listeners(partial(self._serve, commands), [listener])

    async def _serve(self, commands: trio.Nursery, stream: trio.SocketStream) -> None:
        if self._clients >= MAX_CLIENTS:
            await stream.aclose()
            return
        self._clients += 1
        try:
            async with stream:
                client = _Client(stream, self._journal, execute=self._execute, commands=commands)
                await client.run(self._token)
        except* CLIENT_FAULTS:
            pass
        finally:
            self._clients -= 1


class _Client:
    def __init__(
        self, stream: trio.SocketStream, journal: Journal, *, execute: Executor, commands: trio.Nursery
    ) -> None:
        self._stream = stream
        self._journal = journal
        self._execute = execute
        self._commands = commands
        self._running = 0
        self._decoder: FrameDecoder[link.ClientFrame] = FrameDecoder(
            link.ClientFrame, max_frame_bytes=link.MAX_CLIENT_FRAME_BYTES
        )
        self._send, self._outbox = trio.open_memory_channel[link.EngineFrame](OUTBOX_FRAMES)

    async def run(self, token: str) -> None:
        with trio.fail_after(link.HELLO_TIMEOUT_S):
            frames = await self._read()
        if not frames or not _is_welcome(frames[0], token):
            return
        async with self._outbox, trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            await self._send.send(link.Welcome(engine_pid=os.getpid()))
            frames = frames[1:]
            while frames or (frames := await self._read()):
                for frame in frames:
                    self._take(nursery, frame)
                frames = []
            nursery.cancel_scope.cancel()

    def _take(self, nursery: trio.Nursery, frame: link.ClientFrame) -> None:
        match frame:
            case link.Execute() if self._running >= MAX_COMMANDS:
                busy = Refused("Too many commands at once. Wait for one of them.")
                nursery.start_soon(self._tell, link.Answer(frame.number, busy))
            case link.Execute():
                self._running += 1
                self._commands.start_soon(self._answer, frame)
            case link.Watch():
                nursery.start_soon(self._watch)
            case link.Hello():
                raise FramingError("hello was said before")
            case _:
                assert_never(frame)

    async def _answer(self, frame: link.Execute) -> None:
        try:
            reply = await self._execute(frame.command)
        finally:
            self._running -= 1
        with suppress(*CLIENT_FAULTS):
            await self._tell(link.Answer(frame.number, reply))

    async def _watch(self) -> None:
        """A full outbox means a client that does not read: the send times out and the client is closed."""
        with self._journal.watch() as watcher:
            await self._tell(link.Snapshot(watcher.sequence, watcher.state))
            async for numbered in watcher.events:
                await self._tell(link.Happened(numbered.sequence, numbered.event))
        raise trio.BrokenResourceError("the client fell behind")

    async def _tell(self, frame: link.EngineFrame) -> None:
        with trio.fail_after(SEND_TIMEOUT_S):
            await self._send.send(frame)

    async def _read(self) -> list[link.ClientFrame]:
        """The next frames; empty at the end of the stream."""
        while received := await self._stream.receive_some(READ_BYTES):
            if frames := self._decoder.feed(received):
                return frames
        return []

    async def _write(self) -> None:
        async for frame in self._outbox:
            with trio.fail_after(SEND_TIMEOUT_S):
                await self._stream.send_all(encode_frame(frame))


def _is_welcome(frame: link.ClientFrame, token: str) -> bool:
    return isinstance(frame, link.Hello) and hmac.compare_digest(frame.token.encode(), token.encode())


async def open_listener(address: str) -> tuple[trio.SocketListener, str]:
    """Listen at a control address; returns the listener and the address that clients use."""
    if address.startswith("tcp:"):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        return listeners[0], f"tcp:127.0.0.1:{port}"
    path = Path(address)
    path.unlink(missing_ok=True)
    bound = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await bound.bind(address)
    path.chmod(0o600)
    bound.listen(MAX_CLIENTS)
    return trio.SocketListener(bound), address
