"""A file grows from checked pieces, goes on after a kill, and has its name only when it is the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from core import model_files
from core.model_trouble import ModelStoreError, NoSpace
from core.piece_file import PieceFile
from core.piece_manifest import PIECE_BYTES
from tests.p2p.model_peers import manifest_of, sha256_of, some_bytes

BODY = some_bytes(2 * PIECE_BYTES + 5)
PIECES = [BODY[start : start + PIECE_BYTES] for start in range(0, len(BODY), PIECE_BYTES)]
MANIFEST = manifest_of(BODY)


def a_file(folder: Path, sha256: str = sha256_of(BODY)) -> PieceFile:
    return PieceFile(folder / "model.gguf", sha256)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_pieces_in_any_order_make_the_file(tmp_path: Path) -> None:
    file = a_file(tmp_path)
    assert file.adopt(MANIFEST) == frozenset()
    for index in (2, 0, 1, 1):
        assert file.put(index, [memoryview(PIECES[index])[:7], memoryview(PIECES[index])[7:]])
    assert names(tmp_path) == {"model.gguf.incomplete", "model.gguf.pieces"}
    assert file.finish() and file.is_finished()
    assert names(tmp_path) == {"model.gguf"} and file.path.read_bytes() == BODY


def test_a_piece_that_comes_again_when_all_is_done_does_no_harm(tmp_path: Path) -> None:
    file = a_file(tmp_path)
    file.adopt(MANIFEST)
    for index, piece in enumerate(PIECES):
        file.put(index, [piece])
    assert file.finish() and file.put(1, [PIECES[1]])
    assert names(tmp_path) == {"model.gguf"} and file.path.read_bytes() == BODY


def test_a_wrong_piece_is_not_written(tmp_path: Path) -> None:
    file = a_file(tmp_path)
    file.adopt(MANIFEST)
    assert not file.put(0, [PIECES[1]])
    file.close()
    assert a_file(tmp_path).adopt(MANIFEST) == frozenset()
    assert not any((tmp_path / "model.gguf.incomplete").read_bytes())


def test_a_killed_fetch_goes_on_with_what_was_verified(tmp_path: Path) -> None:
    killed = a_file(tmp_path)
    killed.adopt(MANIFEST)
    killed.put(1, [PIECES[1]])
    with (tmp_path / "model.gguf.pieces").open("ab") as journal:
        journal.write(b"\x00\x00")  # it was cut short in the middle of a record
    again = a_file(tmp_path)
    assert again.adopt(MANIFEST) == {1}
    assert again.put(0, [PIECES[0]]) and again.put(2, [PIECES[2]]) and again.finish()
    assert again.path.read_bytes() == BODY


def test_pieces_of_another_file_are_not_gone_on_with(tmp_path: Path) -> None:
    other = some_bytes(2 * PIECE_BYTES + 5, seed=2)
    first = a_file(tmp_path)
    first.adopt(MANIFEST)
    first.put(1, [PIECES[1]])
    first.close()
    second = a_file(tmp_path, sha256_of(other))
    assert second.adopt(manifest_of(other)) == frozenset()


def test_what_two_manifests_say_alike_is_kept(tmp_path: Path) -> None:
    lie = manifest_of(PIECES[0] + PIECES[0] + PIECES[2])
    file = a_file(tmp_path)
    file.adopt(lie)
    for index in (0, 1, 2):
        assert file.put(index, [PIECES[0] if index < 2 else PIECES[2]])
    assert not file.finish() and file.wrong_pieces() == frozenset()
    assert file.adopt(MANIFEST) == {0, 2}
    assert file.put(1, [PIECES[1]]) and file.finish()
    assert file.path.read_bytes() == BODY


def test_what_a_power_cut_spoilt_is_found(tmp_path: Path) -> None:
    file = a_file(tmp_path)
    file.adopt(MANIFEST)
    for index, piece in enumerate(PIECES):
        file.put(index, [piece])
    file.close()
    with (tmp_path / "model.gguf.incomplete").open("r+b") as spoilt:
        spoilt.write(bytes(100))
    again = a_file(tmp_path)
    assert again.adopt(MANIFEST) == {0, 1, 2}
    assert not again.finish() and again.wrong_pieces() == {0}
    assert again.put(0, [PIECES[0]]) and again.finish()


def test_too_little_space_is_said_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "SPACE_SPARE_BYTES", 1 << 62)
    with pytest.raises(NoSpace, match="too little space"):
        a_file(tmp_path).adopt(MANIFEST)


def test_a_disk_that_fills_up_is_one_sentence_and_keeps_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = a_file(tmp_path)
    file.adopt(MANIFEST)
    file.put(0, [PIECES[0]])

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "write", refuse)
        with pytest.raises(NoSpace, match="no space left for model.gguf"):
            file.put(1, [PIECES[1]])
    file.close()
    assert a_file(tmp_path).adopt(MANIFEST) == {0}


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelStoreError, match="cannot be written"):
        PieceFile(tmp_path / "file" / "model.gguf", "00" * 32).adopt(MANIFEST)
