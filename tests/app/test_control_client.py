"""Laws of the blocking client: dialogues with the real control server of a home."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from app.control_client import ControlClient, ControlLinkLost, EngineNotRunning
from app.control_server import ControlServer, open_listener
from app.lockfile import EngineLock, control_address
from core import events as e
from core.commands import Command, Done, JoinNetwork, PauseWork, Refused, Reply
from core.home import Home
from core.journal import Journal
from core.private_file import write_private
from core.store import Store

Result = TypeVar("Result")


async def answer(command: Command) -> Reply:
    return Done("Joining.") if isinstance(command, JoinNetwork) else Refused("Not now.")


async def in_thread(work: Callable[[], Result]) -> Result:
    with trio.fail_after(10):
        return await trio.to_thread.run_sync(work)


@asynccontextmanager
async def engine(home: Home, token: str = "secret") -> AsyncIterator[Journal]:
    with EngineLock(home) as lock:
        listener, address = await open_listener(control_address(home))
        write_private(home.control_token, b"secret")
        lock.publish(address)
        journal = Journal(Store(home.database))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ControlServer(journal, answer, token=token).run, listener)
            yield journal
            nursery.cancel_scope.cancel()


async def test_every_command_gets_its_own_reply(tmp_path: Path) -> None:
    home = Home(tmp_path)

    def dialogue() -> tuple[Reply, Reply]:
        with ControlClient.connect(home, 2.0) as client:
            return client.execute(JoinNetwork(), 2.0), client.execute(PauseWork(), 2.0)

    async with engine(home):
        assert await in_thread(dialogue) == (Done("Joining."), Refused("Not now."))


async def test_snapshot_is_the_state_of_the_journal(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with engine(home) as journal:
        await journal.record(e.JoinRequested(1.0))
        client = await in_thread(partial(ControlClient.connect, home, 2.0))
        assert await in_thread(client.snapshot) == journal.state
        assert await in_thread(client.snapshot) == journal.state
        client.close()


async def test_watching_follows_every_event_until_the_engine_stops(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with engine(home) as journal:
        client = await in_thread(partial(ControlClient.connect, home, 2.0))
        states = client.watch()
        assert (await in_thread(partial(next, states))).peers == 0
        journal.announce(e.PeersCounted(1.0, 1), e.PeersCounted(2.0, 2))
        assert [(await in_thread(partial(next, states))).peers for _ in range(2)] == [1, 2]
    with pytest.raises(ControlLinkLost):
        await in_thread(partial(next, states))
    client.close()


async def test_a_wrong_token_is_no_engine(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with engine(home, token="another"):
        with pytest.raises(EngineNotRunning):
            await in_thread(partial(ControlClient.connect, home, 0.2))


def test_without_an_engine_connecting_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(EngineNotRunning, match="Start it with"):
        ControlClient.connect(Home(tmp_path), 0.0)
