"""Laws of the model store, with real children and a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from core import model_store
from core.model_store import BadModelFile, ModelStore, ModelStoreError, NoSpace, UnknownModel, slug
from tests.models import write_tiny_gguf


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def test_an_added_model_is_there_after_reopening(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    card = await store.add(model)
    assert (card.model, card.source_quantization, len(card.source_sha256)) == ("tiny-random", "F16", 64)
    assert ModelStore(tmp_path).cards() == (card,)
    assert store.path_of("tiny-random", "F16").read_bytes() == model.read_bytes()
    assert await store.verify("tiny-random", "F16")


async def test_the_same_file_twice_adds_nothing(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    assert await store.add(model, name="One") == await store.add(model, name="Two")
    assert len(store.cards()) == 1


async def test_a_name_that_is_taken_by_another_file_is_refused(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path / "store")
    await store.add(model, name="mine")
    other = write_tiny_gguf(tmp_path / "other.gguf", seed=8)
    with pytest.raises(ModelStoreError, match="another model called mine"):
        await store.add(other, name="mine")
    assert (await store.add(other)).model == "tiny-random"


@pytest.mark.parametrize(
    ("cut", "sentence"),
    [(slice(2000), "damaged, incomplete"), (slice(-4096), "damaged, incomplete"), (slice(4, None), "not a GGUF")],
)
async def test_a_file_that_is_no_whole_model_is_refused_and_leaves_nothing(
    tmp_path: Path, model: Path, cut: slice, sentence: str
) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(model.read_bytes()[cut])
    store = ModelStore(tmp_path / "store")
    with pytest.raises(BadModelFile, match=sentence):
        await store.add(bad)
    assert store.cards() == () and _files(tmp_path / "store") == set()


async def test_a_missing_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="No such file"):
        await ModelStore(tmp_path / "store").add(tmp_path / "none.gguf")


async def test_a_variant_is_made_once_and_is_the_same_each_time(tmp_path: Path, model: Path) -> None:
    hashes = []
    for number in range(2):
        store = ModelStore(tmp_path / str(number))
        await store.add(model)
        heard: list[float] = []
        variant = await store.ensure_variant("tiny-random", "Q8_0", on_progress=lambda f, _, h=heard: h.append(f))
        assert heard == sorted(heard) and heard[-1] == 1.0
        assert await store.ensure_variant("tiny-random", "Q8_0") == variant
        assert await store.verify("tiny-random", "Q8_0")
        hashes.append(variant.sha256)
    assert hashes[0] == hashes[1]
    assert ModelStore(tmp_path / "0").path_of("tiny-random", "Q8_0").is_file()


async def test_a_cancelled_quantization_leaves_no_half_file(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    await store.add(model)
    with trio.CancelScope() as scope:
        await store.ensure_variant("tiny-random", "Q4_K_M", on_progress=lambda *_: scope.cancel())
    assert scope.cancelled_caught
    assert _files(tmp_path) == {"index.json", "tiny-random/F16.gguf"}
    assert (await store.ensure_variant("tiny-random", "Q4_K_M")).file_bytes > 0


async def test_what_a_killed_run_left_is_cleaned_before_the_next_change(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    await store.add(model)
    leftover = tmp_path / "tiny-random" / "Q8_0.gguf.part"
    leftover.write_bytes(b"half")
    ModelStore(tmp_path).cards()
    assert leftover.exists()
    await ModelStore(tmp_path).ensure_variant("tiny-random", "Q8_0")
    assert not leftover.exists()


async def test_too_little_space_is_said_before_anything_is_written(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(tmp_path)
    await store.add(model)

    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(model_store.shutil, "disk_usage", lambda _: Usage(1000))
    with pytest.raises(NoSpace, match="GB are needed"):
        await store.ensure_variant("tiny-random", "Q8_0")
    assert _files(tmp_path) == {"index.json", "tiny-random/F16.gguf"}


async def test_a_changed_file_fails_its_verification(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    await store.add(model)
    variant = await store.ensure_variant("tiny-random", "Q8_0")
    path = tmp_path / variant.path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert not await store.verify("tiny-random", "Q8_0")


async def test_a_removed_model_is_gone_with_its_files(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    await store.add(model)
    store.remove("tiny-random")
    assert _files(tmp_path) == {"index.json"}
    with pytest.raises(UnknownModel):
        store.path_of("tiny-random", "F16")
    assert model.is_file()


def test_names_are_spelled_as_the_swarm_spells_them() -> None:
    assert slug("Llama 3.2 1B (Instruct)!") == "llama-3.2-1b-instruct"
