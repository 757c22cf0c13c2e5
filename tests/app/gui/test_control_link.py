"""Laws of the window's link: dialogues with the real control server, which runs on a thread of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from pytestqt.qtbot import QtBot  # noqa: E402

from app.control_server import ControlServer, open_listener  # noqa: E402
from app.gui.control_link import ControlLink  # noqa: E402
from app.gui.engine_process import EngineProcess, engine_command  # noqa: E402
from app.gui.views import Link, LinkPhase  # noqa: E402
from app.lockfile import EngineLock, control_address  # noqa: E402
from core import events as e  # noqa: E402
from core.commands import Command, Done, JoinNetwork, Refused, Reply  # noqa: E402
from core.home import Home  # noqa: E402
from core.journal import Journal  # noqa: E402
from core.node_state import NodeState  # noqa: E402
from core.private_file import write_private  # noqa: E402
from core.store import Store  # noqa: E402

WAIT_MS = 5_000


async def answer(command: Command) -> Reply:
    return Done("Joining.") if isinstance(command, JoinNetwork) else Refused("Not now.")


class Engine:
    """The engine's end of the link, for as long as a with block lasts."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._is_ready = threading.Event()
        self._stop = trio.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run,), daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._is_ready.wait(5)

    def stop(self) -> None:
        self._token.run_sync_soon(self._stop.set)
        self._thread.join(5)

    def announce(self, *notices: e.Notice) -> None:
        self._token.run_sync_soon(self._journal.announce, *notices)

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with EngineLock(self._home) as lock:
            listener, address = await open_listener(control_address(self._home))
            write_private(self._home.control_token, b"secret")
            self._journal = Journal(Store(self._home.database))
            lock.publish(address)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ControlServer(self._journal, answer, token="secret").run, listener)
                self._is_ready.set()
                await self._stop.wait()
                nursery.cancel_scope.cancel()


class Heard:
    """What a link told."""

    def __init__(self, link: ControlLink) -> None:
        self.states: list[NodeState] = []
        self.phases: list[LinkPhase] = []
        self.replies: list[Reply] = []
        link.state_changed.connect(self.states.append)
        link.link_changed.connect(lambda told: self.phases.append(told.phase if isinstance(told, Link) else None))
        link.answered.connect(lambda _, reply: self.replies.append(reply))


@contextmanager
def running(home: Home) -> Iterator[Engine]:
    engine = Engine(home)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


@pytest.fixture
def link(qtbot: QtBot, tmp_path: Path) -> Iterator[ControlLink]:
    made = ControlLink(Home(tmp_path))
    yield made
    made.close()


def test_the_state_follows_the_engines(qtbot: QtBot, link: ControlLink, tmp_path: Path) -> None:
    heard = Heard(link)
    with running(Home(tmp_path)) as engine:
        link.open()
        qtbot.waitUntil(lambda: heard.phases == [LinkPhase.CONNECTED], timeout=WAIT_MS)
        engine.announce(*(e.PeersCounted(1.0, peers) for peers in range(200)))
        qtbot.waitUntil(lambda: heard.states[-1].peers == 199, timeout=WAIT_MS)
        assert len(heard.states) < 20


def test_commands_are_answered_once_each(qtbot: QtBot, link: ControlLink, tmp_path: Path) -> None:
    heard = Heard(link)
    with running(Home(tmp_path)):
        link.open()
        qtbot.waitUntil(lambda: link.is_connected, timeout=WAIT_MS)
        link.execute(JoinNetwork())
        qtbot.waitUntil(lambda: heard.replies == [Done("Joining.")], timeout=WAIT_MS)


def test_a_link_that_broke_comes_back_by_itself(qtbot: QtBot, link: ControlLink, tmp_path: Path) -> None:
    heard = Heard(link)
    with running(Home(tmp_path)):
        link.open()
        qtbot.waitUntil(lambda: link.is_connected, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: heard.phases[-1] is LinkPhase.LOST, timeout=WAIT_MS)
    with running(Home(tmp_path)):
        qtbot.waitUntil(lambda: link.is_connected, timeout=WAIT_MS)
    assert heard.phases[:3] == [LinkPhase.CONNECTED, LinkPhase.LOST, LinkPhase.CONNECTED]


def test_a_command_without_a_link_is_refused_at_once(qtbot: QtBot, link: ControlLink) -> None:
    heard = Heard(link)
    link.execute(JoinNetwork())
    assert isinstance(heard.replies[0], Refused)


def test_a_running_engine_is_found_and_none_is_started(qtbot: QtBot, tmp_path: Path) -> None:
    process = EngineProcess(Home(tmp_path))
    with running(Home(tmp_path)), qtbot.waitSignal(process.found, timeout=WAIT_MS):
        process.ensure()
    assert not Home(tmp_path).logs.exists()


def test_the_engine_is_this_python_headless_in_the_same_home(tmp_path: Path) -> None:
    words = engine_command(Home(tmp_path), ("--network", "devnet"))
    assert words[1:] == ["-m", "app", "--headless", "--home", str(tmp_path), "--network", "devnet"]


def test_an_engine_that_ends_early_leaves_its_last_words(qtbot: QtBot, tmp_path: Path) -> None:
    process = EngineProcess(Home(tmp_path), ("--no-such-option",))
    with qtbot.waitSignal(process.failed, timeout=30_000) as failed:
        process.ensure()
    assert failed.args is not None
    assert failed.args[0].startswith("The engine ended while it started: ")
    assert "it left no message" not in failed.args[0]
