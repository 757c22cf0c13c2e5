"""`starling models fetch` as its owner uses it: a real process, peers that give a tiny model away, no engine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from app.cli_fetch import consent_text
from core.network import Network, dump_network
from p2p.model_messages import ModelHere, OneFile
from tests.models import write_tiny_gguf
from tests.p2p.model_peers import FakeShelf, a_source, manifest_of
from tests.p2p.swarms import Member, a_member, running

ROOT = Path(__file__).resolve().parents[2]
ZERO = "0x" + "00" * 20
NETWORK = Network("testnet", 1, "http://127.0.0.1:9", ZERO, ZERO, "TST", 6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    yield write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf", hidden=512).read_bytes()


def given(seed: int, shelf: FakeShelf, limit: float = 0.0) -> Member:
    return a_source(seed, shelf, limit=limit, network=NETWORK.swarm_id)


@asynccontextmanager
async def network_of(tmp_path: Path, sources: list[Member]) -> AsyncIterator[Path]:
    """A network file whose bootstrap peers give the model away."""
    async with running(*sources):
        addresses = tuple(address for source in sources for address in source.swarm.addresses())
        network = msgspec.structs.replace(NETWORK, bootstrap=addresses)
        path = tmp_path / "network.toml"
        path.write_bytes(dump_network(network))
        yield path


def words_of(home: Path, network: Path, *words: str) -> list[str]:
    start = [sys.executable, "-m", "app", "models", "fetch"]
    return [*start, *words, "--home", str(home), "--network", str(network), "--json"]


async def fetch(home: Path, network: Path, *words: str) -> subprocess.CompletedProcess[str]:
    run = partial(
        subprocess.run, words_of(home, network, *words), cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return await trio.to_thread.run_sync(run)


@pytest.mark.e2e
async def test_a_model_comes_from_two_peers_into_the_store(tmp_path: Path, model: bytes) -> None:
    shelf = FakeShelf(tmp_path / "theirs", [model])
    home = tmp_path / "home"
    async with network_of(tmp_path, [given(2, shelf), given(3, shelf)]) as network:
        asked = await fetch(home, network, shelf.sha256)
        assert asked.returncode == 1 and "Licence, as they say: apache-2.0." in asked.stderr
        assert "--yes" in asked.stderr
        done = await fetch(home, network, shelf.sha256, "--yes")
        again = await fetch(home, network, shelf.sha256, "--yes")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["sha256"], said["bytes"], said["done"]) == (shelf.sha256, len(model), True)
    assert sum(said["pieces_by_peer"].values()) == manifest_of(model).pieces
    assert again.returncode == 0 and "in the store already" in again.stderr
    assert [path.name for path in (home / "models" / "_downloads").iterdir()] == []


@pytest.mark.e2e
async def test_a_fetch_that_is_killed_goes_on_from_there(tmp_path: Path, model: bytes) -> None:
    shelf = FakeShelf(tmp_path / "theirs", [model])
    home = tmp_path / "home"
    slow = given(2, shelf, limit=len(model) / 4)
    async with network_of(tmp_path, [slow]) as network:
        words = words_of(home, network, shelf.sha256, "--yes")
        process = await trio.to_thread.run_sync(
            partial(subprocess.Popen, words, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        start = 76 + 32 * manifest_of(model).pieces
        with trio.fail_after(30):
            while not any(path.stat().st_size > start for path in home.rglob("*.pieces")):
                await trio.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        await trio.to_thread.run_sync(process.wait)
        incomplete = next(home.rglob("*.incomplete"))
        done = await fetch(home, network, shelf.sha256, "--yes")
    assert done.returncode == 0, done.stderr
    assert sum(json.loads(done.stdout)["pieces_by_peer"].values()) < manifest_of(model).pieces
    assert not incomplete.exists()


@pytest.mark.e2e
async def test_a_model_over_the_cap_is_refused_before_it_is_fetched(tmp_path: Path, model: bytes) -> None:
    shelf = FakeShelf(tmp_path / "theirs", [model])
    home = tmp_path / "home"
    home.mkdir()
    (home / "settings.toml").write_text("storage_cap_gb = 0.001\n")
    async with network_of(tmp_path, [given(2, shelf)]) as network:
        refused = await fetch(home, network, shelf.sha256, "--yes")
    assert refused.returncode == 1 and "over their cap of 0.001 GB" in refused.stderr
    assert list(home.rglob("*.incomplete")) == []


@pytest.mark.e2e
async def test_what_nobody_gives_is_one_sentence(tmp_path: Path) -> None:
    async with network_of(tmp_path, [a_member(2, network=NETWORK.swarm_id)]) as network:
        refused = await fetch(tmp_path / "home", network, "no-such-model", "--yes")
    assert refused.returncode == 1
    assert refused.stderr.startswith("No peer offers a model called no-such-model now. Give its sha256")


def test_a_licence_that_binds_is_said_so() -> None:
    file = OneFile("00" * 32, 5_000_000)
    here = ModelHere((file,), "m", "A model\x1b[2J", "Q8_0", "llama3.1")
    text = consent_text(here, sources=1, size=file.file_bytes)
    terms = "Licence, as they say: llama3.1. It may bind you to terms; read them first."
    assert text == f"A model[2J Q8_0, 5.0 MB from 1 peer. {terms}"
    nothing = ModelHere((file,))
    assert "name no licence" in consent_text(nothing, sources=2, size=file.file_bytes)
