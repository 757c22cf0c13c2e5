"""Laws of the model store, with real children and a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from core import model_files
from core.model_card import ModelVariant, damage_text
from core.model_folder import slug
from core.model_shelf import ShelfRules
from core.model_store import ModelStore
from core.model_trouble import BadModelFile, ModelStoreError, NoSpace, UnknownModel
from tests.models import write_tiny_gguf

NO_MATRIX = ("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ1_S", "IQ1_M", "Q2_K_S", "IQ3_XXS", "IQ3_XS")
MADE = (
    "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS",
    "Q3_K_L", "Q3_K_M", "Q3_K_S", "IQ3_M", "IQ3_S", "MXFP4", "Q2_K", "TQ2_0", "TQ1_0", "Q2_0", "Q1_0",
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"x")


async def _is_whole(store: ModelStore, quantization: str) -> bool:
    return not (await store.verify("tiny-random", quantization)).damaged


async def test_an_added_model_is_there_after_reopening(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    card = await store.add(model)
    assert (card.model, card.source_quantization, len(card.source_sha256)) == ("tiny-random", "F16", 64)
    assert ModelStore(tmp_path).cards() == (card,)
    assert store.path_of("tiny-random", "F16").read_bytes() == model.read_bytes()
    assert await _is_whole(store, "F16")


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


@pytest.mark.parametrize("name", ["a.part", "index.json"])
async def test_no_model_takes_a_name_of_the_store_s_own(tmp_path: Path, model: Path, name: str) -> None:
    store = ModelStore(tmp_path / "store")
    with pytest.raises(ModelStoreError, match="the store's own"):
        await store.add(model, name=name)
    titled = write_tiny_gguf(tmp_path / "titled.gguf", title=name)
    card = await store.add(titled)
    again = ModelStore(tmp_path / "store")
    again.clean()
    assert again.cards() == (card,)


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
        variant = await store.ensure_variant("tiny-random", "Q4_K_M", on_progress=lambda f, _, h=heard: h.append(f))
        assert heard == sorted(heard) and heard[-1] == 1.0
        written = store.path_of("tiny-random", "Q4_K_M").stat()
        again = await store.ensure_variant("tiny-random", "Q4_K_M")
        assert (again.sha256, again.used_at > variant.used_at) == (variant.sha256, True)
        assert store.path_of("tiny-random", "Q4_K_M").stat().st_ino == written.st_ino
        assert await _is_whole(store, "Q4_K_M")
        hashes.append(variant.sha256)
    assert hashes[0] == hashes[1]
    assert ModelStore(tmp_path / "0").path_of("tiny-random", "Q4_K_M").is_file()


async def test_every_type_that_needs_no_importance_matrix_is_made(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    card = await store.add(model)
    for quantization in MADE:
        variant = await store.ensure_variant("tiny-random", quantization)
        assert variant.file_bytes <= card.variants[0].file_bytes + 4096
        assert await _is_whole(store, quantization)


async def test_a_type_that_needs_an_importance_matrix_is_refused_with_a_sentence(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    await store.add(model)
    for quantization in NO_MATRIX:
        with pytest.raises(ModelStoreError, match="needs an importance matrix"):
            await store.ensure_variant("tiny-random", quantization)
    assert _files(tmp_path) == {"index.json", "tiny-random/F16.gguf"}


async def test_a_q8_file_is_a_source_too_and_smaller_ones_are_not(tmp_path: Path, model: Path) -> None:
    first = ModelStore(tmp_path / "first")
    await first.add(model)
    await first.ensure_variant("tiny-random", "Q8_0")
    await first.ensure_variant("tiny-random", "Q4_0")
    store = ModelStore(tmp_path / "second")
    await store.add(first.path_of("tiny-random", "Q8_0"), name="eight")
    await store.add(first.path_of("tiny-random", "Q4_0"), name="four")
    assert (await store.ensure_variant("eight", "Q4_K_M")).quantization == "Q4_K_M"
    with pytest.raises(ModelStoreError, match="no better"):
        await store.ensure_variant("eight", "F16")
    with pytest.raises(ModelStoreError, match="is not quantized again"):
        await store.ensure_variant("four", "Q2_K")
    with pytest.raises(ModelStoreError, match="no quantization Q9_X"):
        await store.ensure_variant("eight", "Q9_X")


async def test_a_cancelled_quantization_leaves_no_half_file(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    await store.add(model)
    with trio.CancelScope() as scope:
        await store.ensure_variant("tiny-random", "Q4_K_M", on_progress=lambda *_: scope.cancel())
    assert scope.cancelled_caught
    assert _files(tmp_path) == {"index.json", "tiny-random/F16.gguf"}
    assert (await store.ensure_variant("tiny-random", "Q4_K_M")).file_bytes > 0


async def test_a_cancelled_addition_leaves_nothing(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    for words in ("Checking", "Copying"):
        with trio.CancelScope() as scope:
            await store.add(model, on_progress=lambda _, t, w=words, s=scope: s.cancel() if t.startswith(w) else None)
        assert scope.cancelled_caught and store.cards() == () and _files(tmp_path) == set()
    assert (await store.add(model)).model == "tiny-random"


async def test_a_file_that_changes_while_it_is_copied_is_not_taken(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "moving.gguf", seed=3)
    store = ModelStore(tmp_path / "store")

    def change(_fraction: float, text: str) -> None:
        if text.startswith("Checking"):
            _damage(path)

    with pytest.raises(ModelStoreError, match="changed while it was being copied"):
        await store.add(path, on_progress=change)
    assert store.cards() == () and _files(tmp_path / "store") == set()


async def test_what_a_killed_run_left_is_cleaned_before_the_next_change(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    await store.add(model)
    half, unnamed, staged = (
        tmp_path / "tiny-random" / "Q8_0.gguf.part",
        tmp_path / "tiny-random" / "Q5_K_M.gguf",
        tmp_path / "other.part" / "F16.gguf",
    )
    staged.parent.mkdir()
    for leftover in (half, unnamed, staged):
        leftover.write_bytes(b"half")
    ModelStore(tmp_path).cards()
    assert half.exists() and unnamed.exists() and staged.exists()
    await ModelStore(tmp_path).ensure_variant("tiny-random", "Q8_0")
    assert _files(tmp_path) == {"index.json", "tiny-random/F16.gguf", "tiny-random/Q8_0.gguf"}
    assert not staged.parent.exists()


async def test_a_model_whose_files_are_gone_is_forgotten(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    await store.add(model)
    store.path_of("tiny-random", "F16").unlink()
    again = ModelStore(tmp_path)
    again.clean()
    assert again.cards() == ()


async def test_too_little_space_is_said_before_anything_is_written(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(tmp_path)
    await store.add(model)

    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(model_files.shutil, "disk_usage", lambda _: Usage(1000))
    with pytest.raises(NoSpace, match="GB are needed"):
        await store.ensure_variant("tiny-random", "Q8_0")
    assert _files(tmp_path) == {"index.json", "tiny-random/F16.gguf"}


async def test_a_damaged_variant_is_found_named_and_made_again(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    await store.add(model)
    made = await store.ensure_variant("tiny-random", "Q8_0")
    _damage(store.path_of("tiny-random", "Q8_0"))
    found = await store.verify("tiny-random", "Q8_0")
    assert found.damaged == ("Q8_0.gguf",) and found.checked_at > 0
    assert "starling models quantize tiny-random Q8_0" in damage_text(store.cards()[0], found)
    assert ModelStore(tmp_path).cards()[0].variant("Q8_0") == found
    again = await store.ensure_variant("tiny-random", "Q8_0")
    assert (again.sha256, again.damaged) == (made.sha256, ())
    assert await _is_whole(store, "Q8_0")


async def test_nothing_is_made_from_a_damaged_source_until_it_is_added_again(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    await store.add(model)
    kept = await store.ensure_variant("tiny-random", "Q8_0")
    _damage(store.path_of("tiny-random", "F16"))
    assert not await _is_whole(store, "F16")
    for quantization in ("Q4_0", "F16"):
        with pytest.raises(ModelStoreError, match="models add FILE"):
            await store.ensure_variant("tiny-random", quantization)
    card = await store.add(model)
    assert card.variants[1:] == (kept,) and await _is_whole(store, "F16")
    assert (await store.ensure_variant("tiny-random", "Q4_0")).file_bytes > 0


async def test_a_removed_model_is_gone_with_its_files(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    await store.add(model)
    await store.remove("tiny-random")
    assert _files(tmp_path) == {"index.json"}
    with pytest.raises(UnknownModel):
        store.path_of("tiny-random", "F16")
    assert model.is_file()


async def test_one_variant_can_go_and_the_source_cannot_alone(tmp_path: Path, model: Path) -> None:
    store = ModelStore(tmp_path)
    await store.add(model)
    await store.ensure_variant("tiny-random", "Q8_0")
    await store.remove("tiny-random", "Q8_0")
    assert _files(tmp_path) == {"index.json", "tiny-random/F16.gguf"}
    with pytest.raises(ModelStoreError, match="remove the whole model"):
        await store.remove("tiny-random", "F16")


async def test_over_the_cap_the_longest_unused_variant_goes(tmp_path: Path, model: Path) -> None:
    size = model.stat().st_size
    store = ModelStore(tmp_path, rules=ShelfRules(cap_bytes=int(size * 1.95)))
    await store.add(model)
    await store.ensure_variant("tiny-random", "Q8_0")
    await store.ensure_variant("tiny-random", "Q4_0")
    await store.ensure_variant("tiny-random", "Q8_0")
    await store.ensure_variant("tiny-random", "Q5_1")
    assert [v.quantization for v in store.cards()[0].variants] == ["F16", "Q8_0", "Q5_1"]
    assert not (tmp_path / "tiny-random" / "Q4_0.gguf").exists()


async def test_what_is_served_stays_and_then_nothing_more_comes_in(tmp_path: Path, model: Path) -> None:
    size = model.stat().st_size
    held = frozenset({("tiny-random", "Q8_0")})
    store = ModelStore(tmp_path, rules=ShelfRules(cap_bytes=int(size * 1.7)), held=lambda: held)
    await store.add(model)
    await store.ensure_variant("tiny-random", "Q8_0")
    with pytest.raises(NoSpace, match="over their cap"):
        await store.ensure_variant("tiny-random", "Q5_1")
    assert [v.quantization for v in store.cards()[0].variants] == ["F16", "Q8_0"]


def test_a_variant_without_shards_is_its_own_one_file() -> None:
    variant = ModelVariant("Q8_0", 7, "aa", "m/Q8_0.gguf")
    assert [(file.path, file.file_bytes, file.sha256) for file in variant.files] == [("m/Q8_0.gguf", 7, "aa")]


def test_names_are_spelled_as_the_swarm_spells_them() -> None:
    assert slug("Llama 3.2 1B (Instruct)!") == "llama-3.2-1b-instruct"
