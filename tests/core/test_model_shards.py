"""A model in several files is one model, with every file's hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.model_shards import shard_name, shard_names
from core.model_store import ModelStore
from core.model_trouble import BadModelFile
from tests.models import write_tiny_gguf


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, ...]]:
    folder = tmp_path_factory.mktemp("shards")
    write_tiny_gguf(folder / "tiny.gguf", shard_tensors=8)
    yield tuple(sorted(folder.glob("*.gguf")))


def test_every_shard_names_its_whole_set() -> None:
    names = tuple(f"m-{n:05d}-of-00003.gguf" for n in (1, 2, 3))
    assert all(shard_names(name) == names for name in names)
    assert tuple(shard_name("m", index, count=3) for index in range(3)) == names


@pytest.mark.parametrize("name", ["m.gguf", "m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-1-of-2.gguf"])
def test_what_is_no_shard_stands_alone(name: str) -> None:
    assert shard_names(name) == (name,)
    assert shard_name("m", 0, count=1) == "m.gguf"


async def test_any_shard_brings_the_others_in(tmp_path: Path, shards: tuple[Path, ...]) -> None:
    store = ModelStore(tmp_path)
    card = await store.add(shards[1])
    assert card.source is not None and len(shards) == 3
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in shards]
    assert [file.sha256 for file in card.source.files] == hashes
    assert [Path(file.path).name for file in card.source.files] == [f"F16-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert card.source.file_bytes == sum(path.stat().st_size for path in shards)
    assert await store.add(shards[0]) == card


async def test_a_missing_shard_is_named(tmp_path: Path, shards: tuple[Path, ...]) -> None:
    for path in (shards[0], shards[2]):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(BadModelFile, match="tiny-00002-of-00003.gguf is missing"):
        await ModelStore(tmp_path / "store").add(tmp_path / shards[0].name)


async def test_a_model_in_shards_is_quantized_to_one_file_like_the_whole_one(
    tmp_path: Path, shards: tuple[Path, ...]
) -> None:
    store = ModelStore(tmp_path)
    card = await store.add(shards[0])
    whole = await store.add(write_tiny_gguf(tmp_path / "whole.gguf"), name="whole")
    split_made = await store.ensure_variant(card.model, "Q8_0")
    whole_made = await store.ensure_variant(whole.model, "Q8_0")
    assert split_made.shards == () and split_made.sha256 == whole_made.sha256


async def test_the_damaged_shard_is_the_one_that_is_named(tmp_path: Path, shards: tuple[Path, ...]) -> None:
    store = ModelStore(tmp_path)
    card = await store.add(shards[0])
    assert card.source is not None
    path = tmp_path / card.source.files[2].path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert (await store.verify(card.model, "F16")).damaged == ("F16-00003-of-00003.gguf",)
    await store.add(shards[0])
    assert (await store.verify(card.model, "F16")).damaged == ()
