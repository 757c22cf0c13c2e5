"""What an owner gives away: by default only what its licence plainly lets anyone hand on, and never a damaged file."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from core.model_card import ModelCard, ModelVariant
from core.model_giving import given, is_free
from core.piece_making import forget_others, manifest_of
from core.piece_manifest import PIECE_BYTES
from core.settings import Settings, ShareModels
from tests.p2p import model_peers

CARD = ModelCard(
    model="tiny", title="Tiny", architecture="llama", parameters=1, layers=1, hidden=1, feed_forward=1, heads=1,
    kv_heads=1, kv_width=1, vocabulary=1, context_tokens=1, source_sha256="00" * 32, source_quantization="F16",
    variants=(ModelVariant("F16", 5, "00" * 32, "tiny/F16.gguf"),), license="apache-2.0",
)  # fmt: skip
BODY = model_peers.some_bytes(PIECE_BYTES + 9)
SHA256 = model_peers.sha256_of(BODY)


@pytest.mark.parametrize("name", ["Apache-2.0", "mit", "CC BY 4.0", "cc-by-sa-4.0", "bsd 3 clause"])
def test_plain_licences_are_free_however_they_are_written(name: str) -> None:
    assert is_free(name)


@pytest.mark.parametrize("name", ["", "other", "llama3.1", "gemma", "cc-by-nc-4.0", "proprietary", "mit-research"])
def test_a_licence_that_asks_for_more_is_not_free(name: str) -> None:
    assert not is_free(name)


def test_the_owner_decides() -> None:
    closed = msgspec.structs.replace(CARD, model="closed", license="llama3.1")
    names = {
        share: [card.model for card, _ in given((CARD, closed), Settings(share_models=share))] for share in ShareModels
    }
    assert names == {ShareModels.FREE: ["tiny"], ShareModels.ALL: ["tiny", "closed"], ShareModels.NONE: []}


def test_a_damaged_file_is_not_given_away() -> None:
    damaged = msgspec.structs.replace(CARD.variants[0], damaged=("F16.gguf",))
    assert given((msgspec.structs.replace(CARD, variants=(damaged,)),), Settings()) == ()


def test_pieces_are_made_once_and_again_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(BODY)
    assert manifest_of(path, SHA256, store=tmp_path) == model_peers.manifest_of(BODY)
    kept = tmp_path / "_pieces" / SHA256
    before = kept.stat().st_mtime_ns
    assert manifest_of(path, SHA256, store=tmp_path) == model_peers.manifest_of(BODY)
    assert kept.stat().st_mtime_ns == before
    path.write_bytes(BODY[:-1] + b"x")
    assert manifest_of(path, SHA256, store=tmp_path) is None
    forget_others(tmp_path, frozenset())
    assert not kept.exists()
