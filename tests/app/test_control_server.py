"""The control link: who may come in, what they see, and what ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from app import control_protocol as link
from app.control_client import ControlClient, EngineNotRunning
from app.control_server import MAX_COMMANDS, ControlServer, Executor, open_listener
from app.lockfile import EngineLock, HomeLocked, control_address, engine_address
from core import commands as c
from core import events as e
from core.framing import FrameDecoder, encode_frame
from core.home import Home
from core.journal import Journal
from core.private_file import write_private
from core.store import Store

TOKEN = "secret"


async def execute(command: c.Command) -> c.Reply:
    return c.Refused("no such job") if isinstance(command, c.CancelJob) else c.Done("done")


@asynccontextmanager
async def engine(home: Home) -> AsyncIterator[Journal]:
    with EngineLock(home) as lock:
        write_private(home.control_token, TOKEN.encode())
        store = Store(home.database)
        journal = Journal(store)
        listener, address = await open_listener(control_address(home))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ControlServer(journal, execute, token=TOKEN).run, listener)
            lock.publish(address)
            yield journal
            nursery.cancel_scope.cancel()
        store.close()


async def connect(home: Home) -> trio.SocketStream:
    address = engine_address(home)
    assert address is not None
    return await trio.open_unix_socket(address)


async def read_all(stream: trio.SocketStream) -> list[link.EngineFrame]:
    decoder: FrameDecoder[link.EngineFrame] = FrameDecoder(link.EngineFrame, max_frame_bytes=1 << 20)
    frames: list[link.EngineFrame] = []
    with trio.fail_after(5):
        while received := await stream.receive_some(65_536):
            frames += decoder.feed(received)
    return frames


async def test_a_client_executes_and_sees_what_happens(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with engine(home) as journal:
        await journal.record(e.JoinRequested(1.0))

        def talk() -> tuple[c.Reply, bool]:
            with ControlClient.connect(home, timeout_s=5) as client:
                return client.execute(c.JoinNetwork(), timeout_s=5), client.snapshot().is_join_wanted

        assert await trio.to_thread.run_sync(talk) == (c.Done("done"), True)


async def test_the_wrong_token_gets_nothing(tmp_path: Path) -> None:
    async with engine(Home(tmp_path)):
        stream = await connect(Home(tmp_path))
        await stream.send_all(encode_frame(link.Hello("wrong")))
        assert await read_all(stream) == []


@pytest.mark.parametrize("garbage", [b"\x05hello", encode_frame(link.Watch()), b"\xff" * 10])
async def test_the_first_malformed_frame_closes_the_link(tmp_path: Path, garbage: bytes) -> None:
    async with engine(Home(tmp_path)):
        stream = await connect(Home(tmp_path))
        await stream.send_all(garbage)
        assert await read_all(stream) == []
        again = await connect(Home(tmp_path))
        await again.send_all(encode_frame(link.Hello(TOKEN)) + b"\x05hello")
        assert all(isinstance(frame, link.Welcome) for frame in await read_all(again))


async def test_a_watcher_sees_a_snapshot_and_then_numbered_events(tmp_path: Path) -> None:
    async with engine(Home(tmp_path)) as journal:
        stream = await connect(Home(tmp_path))
        await stream.send_all(encode_frame(link.Hello(TOKEN)) + encode_frame(link.Watch()))
        decoder: FrameDecoder[link.EngineFrame] = FrameDecoder(link.EngineFrame, max_frame_bytes=1 << 20)
        frames: list[link.EngineFrame] = []
        with trio.fail_after(5):
            while len(frames) < 2:
                frames += decoder.feed(await stream.receive_some(65_536))
            journal.announce(e.PeersCounted(1.0, 4))
            while len(frames) < 3:
                frames += decoder.feed(await stream.receive_some(65_536))
        snapshot, happened = frames[1], frames[2]
        assert isinstance(snapshot, link.Snapshot)
        assert isinstance(happened, link.Happened)
        assert happened.sequence == snapshot.sequence + 1


async def test_a_second_engine_in_a_home_is_refused_in_one_sentence(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with EngineLock(home), pytest.raises(HomeLocked, match="already runs in"), EngineLock(home):
        pass


async def test_without_an_engine_the_client_says_so(tmp_path: Path) -> None:
    def talk() -> None:
        ControlClient.connect(Home(tmp_path), timeout_s=0.2)

    with pytest.raises(EngineNotRunning):
        await trio.to_thread.run_sync(talk)


async def test_a_home_with_a_long_path_uses_loopback_tcp(tmp_path: Path) -> None:
    home = Home(tmp_path / ("x" * 90))
    async with engine(home):
        assert (engine_address(home) or "").startswith("tcp:127.0.0.1:")

        def talk() -> c.Reply:
            with ControlClient.connect(home, timeout_s=5) as client:
                return client.execute(c.CancelJob("j"), timeout_s=5)  # type: ignore[arg-type]

        assert await trio.to_thread.run_sync(talk) == c.Refused("no such job")


@asynccontextmanager
async def serving(home: Home, execute: Executor) -> AsyncIterator[trio.SocketStream]:
    """An engine's control link alone, and a client who has said hello."""
    listener, address = await open_listener(control_address(home))
    store = Store(home.database)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ControlServer(Journal(store), execute, token=TOKEN).run, listener)
        stream = await trio.open_unix_socket(address)
        await stream.send_all(encode_frame(link.Hello(TOKEN)))
        yield stream
        nursery.cancel_scope.cancel()
    store.close()


async def test_a_command_is_carried_out_even_if_its_client_leaves(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.run.mkdir()
    begun, go_on, ended = trio.Event(), trio.Event(), trio.Event()

    async def slowly(command: c.Command) -> c.Reply:
        begun.set()
        await go_on.wait()
        ended.set()
        return c.Done()

    async with serving(home, slowly) as stream:
        await stream.send_all(encode_frame(link.Execute(1, c.LeaveNetwork())))
        with trio.fail_after(5):
            await begun.wait()
            await stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
            go_on.set()
            await ended.wait()
            again = await trio.open_unix_socket(str(home.control_socket))
            await again.send_all(encode_frame(link.Hello(TOKEN)))
            assert await again.receive_some(10)


async def test_a_client_may_give_only_so_many_commands_at_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.run.mkdir()
    given = 0

    async def never(command: c.Command) -> c.Reply:
        nonlocal given
        given += 1
        await trio.sleep_forever()
        return c.Done()

    async with serving(home, never) as stream:
        await stream.send_all(b"".join(encode_frame(link.Execute(n, c.JoinNetwork())) for n in range(MAX_COMMANDS + 5)))
        decoder: FrameDecoder[link.EngineFrame] = FrameDecoder(link.EngineFrame, max_frame_bytes=1 << 20)
        answers = 0
        with trio.fail_after(5):
            while answers < 5:
                frames = decoder.feed(await stream.receive_some(65_536))
                answers += sum(isinstance(frame, link.Answer) for frame in frames)
        assert given == MAX_COMMANDS
