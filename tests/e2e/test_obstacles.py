"""What can stand in an engine's way: one clear sentence, exit code 1, and nothing lost."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from app.devnet import Devnet
from core import commands as c
from core.network import Network, dump_network
from core.state import earnings
from tests.e2e.conftest import Peer

pytestmark = pytest.mark.e2e


def starling(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "app", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def obstructed(*words: str) -> str:
    """Run the engine where it cannot; the one sentence that it ends with."""
    done = starling("--headless", "--join", *words)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    return done.stderr.strip().splitlines()[-1]


def network_with(devnet: Devnet, folder: Path, **changes: object) -> str:
    assert devnet.network is not None
    changed: Network = msgspec.structs.replace(devnet.network, **changes)
    (folder / "other.toml").write_bytes(dump_network(changed))
    return str(folder / "other.toml")


def test_a_chain_that_is_down(devnet: Devnet, tmp_path: Path) -> None:
    network = network_with(devnet, tmp_path, rpc="http://127.0.0.1:9")
    assert "does not answer" in obstructed("--home", str(tmp_path / "h"), "--network", network)


def test_a_wrong_chain_id(devnet: Devnet, tmp_path: Path) -> None:
    network = network_with(devnet, tmp_path, chain_id=1)
    assert "is on chain 31337" in obstructed("--home", str(tmp_path / "h"), "--network", network)


def test_a_locked_home(peer: Peer, devnet: Devnet) -> None:
    before = earnings(peer.state()).total
    sentence = obstructed("--home", str(peer.home.folder), "--network", str(devnet.network_file))
    assert "already runs in" in sentence
    assert earnings(peer.state()).total == before


def test_a_port_in_use(devnet: Devnet, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        sentence = obstructed("--home", str(tmp_path / "h"), "--network", str(devnet.network_file), "--port", port)
    assert port in sentence


def test_a_truncated_model_file(peer: Peer, tmp_path: Path) -> None:
    whole = peer.home.models.rglob("*.gguf")
    broken = tmp_path / "broken.gguf"
    shutil.copy(next(whole), broken)
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    before = peer.state().models
    reply = peer.execute(c.AddModel(str(broken), "broken"))
    assert isinstance(reply, c.Refused)
    assert "broken.gguf" in reply.reason
    assert peer.state().models == before
    done = starling("models", "add", str(broken), "--home", str(tmp_path / "alone"))
    assert done.returncode == 1
    assert "broken.gguf" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_and_networks_that_make_no_sense(tmp_path: Path) -> None:
    home = tmp_path / "h"
    home.mkdir()
    assert "belongs to no network yet" in obstructed("--home", str(home))
    (home / "settings.toml").write_text("listen_port = 99999\n")
    assert "listen_port" in obstructed("--home", str(home))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_no_space_left(devnet: Devnet, small_disk: Path) -> None:
    sentence = obstructed("--home", str(small_disk / "h"), "--network", str(devnet.network_file))
    assert "space" in sentence.lower()
