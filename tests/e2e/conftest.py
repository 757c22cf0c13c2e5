"""Real processes for the end-to-end laws: one network and one provider for all of them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.child import Child
from app.control_client import ControlClient, EngineNotRunning
from app.devnet import Devnet
from core import commands as c
from core.home import Home
from core.node_state import NodeState, Presence
from core.settings import Settings, dump_settings
from tests.models import write_tiny_gguf

JOIN_S = 240.0
SLOW_MODEL = "slow"


class Peer:
    """A headless engine in a home of its own."""

    def __init__(self, home: Home, network_file: Path) -> None:
        self.home = home
        self._network_file = network_file
        self.child: Child | None = None

    def start(self, *words: str) -> None:
        given = ["app", "--headless", "--join", "--home", str(self.home.folder), "--network", str(self._network_file)]
        self.child = Child("provider", [*given, *words], log=self.home.logs / "process.log")

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()
            self.child = None

    def state(self) -> NodeState:
        with ControlClient.connect(self.home, timeout_s=20) as client:
            return client.snapshot()

    def execute(self, command: c.Command) -> c.Reply:
        with ControlClient.connect(self.home, timeout_s=20) as client:
            return client.execute(command, timeout_s=120)

    def wait(self, is_met: Callable[[NodeState], bool], *, timeout_s: float = JOIN_S) -> NodeState:
        deadline = time.monotonic() + timeout_s
        state: NodeState | None = None
        while time.monotonic() < deadline:
            try:
                state = self.state()
            except EngineNotRunning:
                time.sleep(0.1)
                continue
            if is_met(state):
                return state
            time.sleep(0.1)
        raise AssertionError(f"not within {timeout_s} s: {state}")

    def wait_joined(self, model: str = "starling-demo") -> NodeState:
        def is_met(state: NodeState) -> bool:
            served = state.worker.model if state.worker is not None else ""
            return state.presence is Presence.JOINED and served == model

        return self.wait(is_met)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="session")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    with Devnet(tmp_path_factory.mktemp("net"), tell=lambda text: None) as running:
        yield running


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory, devnet: Devnet) -> Iterator[Peer]:
    """A provider of the demo model that takes browsers too, and knows a slow model for whoever needs a long job."""
    provider = Peer(Home(tmp_path_factory.mktemp("p")), devnet.network_file)
    provider.home.settings.write_bytes(dump_settings(Settings(listen_ws_port=free_port())))
    provider.start()
    try:
        provider.wait_joined()
        folder = tmp_path_factory.mktemp("models")
        slow = write_tiny_gguf(folder / "slow.gguf", hidden=1024, layers=10, context=2048)
        assert isinstance(provider.execute(c.AddModel(str(slow), SLOW_MODEL)), c.Done)
        yield provider
    finally:
        provider.stop()


@pytest.fixture
def serving_slowly(peer: Peer) -> Iterator[Peer]:
    peer.execute(c.ServeModel(SLOW_MODEL))
    peer.wait_joined(SLOW_MODEL)
    yield peer
    peer.execute(c.ServeModel("starling-demo"))
    peer.wait_joined()


def ask_words(home: Path, devnet: Devnet, model: str, *more: str) -> list[str]:
    words = [sys.executable, "-P", "-m", "app", "ask", model, "Count from 1 to 30.", "--home", str(home)]
    return [*words, "--network", str(devnet.network_file), *more]


def ask(home: Path, devnet: Devnet, model: str, *more: str) -> dict[str, Any]:
    """A whole `starling ask --json`, as a user runs it."""
    words = ask_words(home, devnet, model, "--json", *more)
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout, done.stderr
    return {**json.loads(done.stdout), "exit": done.returncode, "said": done.stderr}
