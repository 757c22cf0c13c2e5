"""What the owner asks of the models, carried out: one answer, and a state that knows what is in the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from core import commands as c
from core import events as e
from core.journal import Journal
from core.model_shelf import ShelfRules
from core.model_store import ModelStore
from core.model_work import STOPPED, ModelWork, in_use, record_models
from core.node_state import NodeState
from core.store import Store
from tests.hub import open_hub_server
from tests.models import write_tiny_gguf

NAME = "tiny-random"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    store = Store(tmp_path / "s.db")
    yield Journal(store)
    store.close()


def quantizations(journal: Journal) -> list[str]:
    return [variant.quantization for variant in journal.state.models[NAME].variants]


async def test_the_state_knows_each_variant_and_each_removal(tmp_path: Path, model: Path, journal: Journal) -> None:
    work = ModelWork(journal, ModelStore(tmp_path / "models"))
    assert isinstance(await work.execute(c.AddModel(str(model))), c.Done)
    done = await work.execute(c.QuantizeModel(NAME, "q8_0"))
    assert isinstance(done, c.Done) and "tiny-random is there as Q8_0" in done.text
    assert quantizations(journal) == ["F16", "Q8_0"]
    await work.execute(c.RemoveModel(NAME, "q8_0"))
    assert quantizations(journal) == ["F16"]
    await work.execute(c.RemoveModel(NAME))
    assert journal.state.models == {} and journal.state.progress is None


async def test_what_had_to_go_for_room_leaves_the_state_too(tmp_path: Path, model: Path, journal: Journal) -> None:
    rules = ShelfRules(cap_bytes=int(model.stat().st_size * 1.7))
    work = ModelWork(journal, ModelStore(tmp_path / "models", rules=rules))
    await work.execute(c.AddModel(str(model)))
    for kind in ("Q8_0", "Q4_0"):
        assert isinstance(await work.execute(c.QuantizeModel(NAME, kind)), c.Done)
    assert quantizations(journal) == ["F16", "Q4_0"]


async def test_verifying_ends_with_a_reason_when_a_file_is_damaged(
    tmp_path: Path, model: Path, journal: Journal
) -> None:
    models = ModelStore(tmp_path / "models")
    work = ModelWork(journal, models)
    await work.execute(c.AddModel(str(model)))
    assert await work.execute(c.VerifyModels()) == c.Done("The file is what it was.")
    path = models.path_of(NAME, "F16")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = await work.execute(c.VerifyModels(NAME))
    assert isinstance(found, c.Refused) and "F16.gguf of tiny-random is damaged" in found.reason
    assert journal.state.models[NAME].variants[0].damaged == ("F16.gguf",)


async def test_stopped_work_says_so_and_leaves_nothing(tmp_path: Path, model: Path, journal: Journal) -> None:
    models = ModelStore(tmp_path / "models")
    work = ModelWork(journal, models)
    await work.execute(c.AddModel(str(model)))
    assert isinstance(await work.execute(c.StopModelWork()), c.Refused)
    replies: list[c.Reply] = []

    async def quantize() -> None:
        replies.append(await work.execute(c.QuantizeModel(NAME, "IQ4_XS")))

    with journal.watch() as watcher:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(quantize)
            with trio.fail_after(60):
                while not isinstance((await watcher.events.receive()).event, e.WorkProgressed):
                    continue
            assert isinstance(await work.execute(c.StopModelWork()), c.Done)
    assert replies == [c.Refused(STOPPED)]
    assert {path.name for path in (tmp_path / "models").rglob("*") if path.is_file()} == {"index.json", "F16.gguf"}
    assert journal.state.progress is None


async def test_a_model_of_the_hub_comes_by_a_command(
    tmp_path: Path, model: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with open_hub_server() as hub:
        hub.repos["a/b"] = {"b-F16.gguf": model.read_bytes()}
        work = ModelWork(journal, ModelStore(tmp_path / "models", endpoint=hub.endpoint))
        done = await work.execute(c.InstallModel("a/b", "mine"))
        again = await work.execute(c.InstallModel("a/b"))
    assert done == c.Done("Tiny random is in the store as mine.")
    assert again == c.Done("Tiny random was in the store already, as mine; nothing was copied.")
    assert journal.state.models["mine"].origin == "a/b:b-F16.gguf"


async def test_a_restart_finds_what_the_store_has_by_then(tmp_path: Path, model: Path, journal: Journal) -> None:
    await ModelWork(journal, ModelStore(tmp_path / "models")).execute(c.AddModel(str(model)))
    await ModelStore(tmp_path / "models").ensure_variant(NAME, "Q8_0")
    await record_models(journal, ModelStore(tmp_path / "models"))
    assert quantizations(journal) == ["F16", "Q8_0"]


def test_what_a_worker_has_loaded_is_in_use() -> None:
    state = NodeState(worker=e.WorkerStarted(1.0, NAME, "Q8_0", 0.1, 1))
    assert in_use(NodeState()) == frozenset() and in_use(state) == {(NAME, "Q8_0")}


async def test_what_is_served_cannot_be_removed(tmp_path: Path, model: Path, journal: Journal) -> None:
    models = ModelStore(tmp_path / "models")
    work = ModelWork(journal, models)
    await work.execute(c.AddModel(str(model)))
    await work.execute(c.QuantizeModel(NAME, "Q8_0"))
    await journal.record(e.WorkerStarted(1.0, NAME, "F16", 0.1, 1))
    for command in (c.RemoveModel(NAME), c.RemoveModel(NAME, "F16")):
        assert isinstance(await work.execute(command), c.Refused)
    assert isinstance(await work.execute(c.RemoveModel(NAME, "Q8_0")), c.Done)
