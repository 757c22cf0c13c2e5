"""A folder of models keeps what its list names, and nothing else of its models."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from core.model_card import ModelCard, ModelFile, ModelVariant
from core.model_folder import ModelFolder
from core.model_trouble import ModelStoreError

SOURCE = ModelVariant("F16", 1, "00", "m/F16.gguf")
# What another runtime loads may be a folder of files.
WEIGHTS = tuple(ModelFile(f"m/safetensors/{name}", 1, "00") for name in ("config.json", "model.safetensors"))
FOLDER = ModelVariant("BF16", 2, "00", "m/safetensors", WEIGHTS)
CARD = ModelCard(
    model="m", title="M", architecture="llama", parameters=1, layers=1, hidden=1, feed_forward=1, heads=1, kv_heads=1,
    kv_width=1, vocabulary=1, context_tokens=1, source_sha256="00", source_quantization="F16",
    variants=(SOURCE, FOLDER),
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    for file in (*SOURCE.files, *FOLDER.files):
        (tmp_path / file.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file.path).write_bytes(b"x")
    ModelFolder(tmp_path).put(CARD)
    return ModelFolder(tmp_path)


def names(folder: ModelFolder) -> set[str]:
    return {path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*") if path.is_file()}


def test_a_variant_that_is_a_folder_stays_whole_and_goes_whole(folder: ModelFolder) -> None:
    before = names(folder)
    folder.clean()
    assert names(folder) == before and folder.cards() == (CARD,)
    folder.remove_variant("m", "BF16")
    assert names(folder) == {"index.json", "m/F16.gguf"} and not (folder.path / "m" / "safetensors").exists()


def test_a_variant_with_a_missing_file_is_forgotten_and_its_rest_cleared_away(folder: ModelFolder) -> None:
    (folder.path / WEIGHTS[0].path).unlink()
    folder.clean()
    assert folder.cards() == (msgspec.structs.replace(CARD, variants=(SOURCE,)),)
    assert names(folder) == {"index.json", "m/F16.gguf"}


def test_what_lies_beside_the_models_is_left_alone(folder: ModelFolder) -> None:
    (folder.path / "by hand").mkdir()
    (folder.path / "by hand" / "x.gguf").write_bytes(b"x")
    folder.clean()
    assert "by hand/x.gguf" in names(folder)


@pytest.mark.parametrize("is_listed", [False, True])
def test_a_change_that_was_cut_off_after_the_list_is_undone(folder: ModelFolder, is_listed: bool) -> None:
    staged = folder.path / "n.part"
    staged.mkdir()
    (staged / "F16.gguf").write_bytes(b"x")
    if is_listed:
        variant = msgspec.structs.replace(SOURCE, path="n/F16.gguf")
        folder.put(msgspec.structs.replace(CARD, model="n", variants=(variant,)))
    again = ModelFolder(folder.path)
    again.clean()
    assert again.cards() == (CARD,) and not staged.exists()


def test_a_list_that_cannot_be_read_is_said_and_nothing_is_deleted(folder: ModelFolder) -> None:
    (folder.path / "index.json").write_text("{")
    with pytest.raises(ModelStoreError, match="list of models"):
        ModelFolder(folder.path)
    assert "m/F16.gguf" in names(folder)
