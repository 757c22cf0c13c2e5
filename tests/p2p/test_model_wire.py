"""What sources send is cut right however it arrives, and nothing malformed gets further."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.framing import encode_frame
from core.piece_manifest import PIECE_BYTES, PieceManifest, manifest_fault
from p2p.manifest_book import ManifestBook
from p2p.model_messages import (
    MAX_ANSWER_BYTES,
    Answer,
    GetManifest,
    GetModel,
    GetPieces,
    ManifestHere,
    ModelHere,
    NotHere,
    OneFile,
    PieceHere,
    Question,
)
from p2p.model_wire import AnswerDecoder
from p2p.protocol_error import RemoteProtocolError
from p2p.upload_limit import UploadLimit

SHA256 = "ab" * 32
MESSAGES = {
    "get_model": GetModel(SHA256),
    "get_manifest": GetManifest(SHA256),
    "get_pieces": GetPieces(SHA256, (0, 7)),
    "model": ModelHere((OneFile(SHA256, 1_048_577),), "tiny", "Tiny", "F16", "apache-2.0"),
    "manifest": ManifestHere(1_048_577, PIECE_BYTES, 64),
    "piece": PieceHere(1, 1),
    "not_here": NotHere("It is not given away here.", 5.0),
}
VECTORS = Path(__file__).parents[1] / "vectors" / "model_messages.json"


def test_every_message_is_written_as_its_vector_says() -> None:
    vectors = json.loads(VECTORS.read_text())
    assert {name: encode_frame(message).hex() for name, message in MESSAGES.items()} == vectors


@given(st.lists(st.integers(1, 300), max_size=6), st.integers(1, 64))
def test_answers_and_raw_bytes_are_cut_right_however_they_arrive(lengths: list[int], step: int) -> None:
    sent = b"".join(encode_frame(PieceHere(i, n)) + bytes([i]) * n for i, n in enumerate(lengths))
    decoder = AnswerDecoder()
    pieces: list[tuple[int, bytearray]] = []
    for start in range(0, len(sent), step):
        for found in decoder.feed(sent[start : start + step]):
            if isinstance(found, memoryview):
                pieces[-1][1].extend(found)
            else:
                assert isinstance(found, PieceHere)
                pieces.append((found.index, bytearray()))
    assert [(i, bytes(raw)) for i, raw in pieces] == [(i, bytes([i]) * n) for i, n in enumerate(lengths)]


@pytest.mark.parametrize(
    "sent",
    [b"\xff" * 6, encode_frame({"type": "piece"}), encode_frame({"type": "other"}), b"\x01x", b"\x80\x80\x80\x08",
     encode_frame({"type": "piece", "index": 0, "length": PIECE_BYTES + 1})],
)  # fmt: skip
def test_malformed_answers_are_the_peer_s_fault(sent: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        AnswerDecoder().feed(sent)


def test_an_answer_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(RemoteProtocolError, match="over the limit"):
        AnswerDecoder().feed(encode_frame("x" * MAX_ANSWER_BYTES)[:4])


@given(st.binary(max_size=200))
def test_any_bytes_are_answers_or_a_fault(sent: bytes) -> None:
    try:
        AnswerDecoder().feed(sent)
    except RemoteProtocolError:
        return


@pytest.mark.parametrize("hash_text", ["../../etc/passwd", "AB" * 32, "ab" * 31, "ab" * 32 + "\n"])
def test_only_a_hash_can_be_asked_for(hash_text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"type": "get_model", "sha256": hash_text}, Question)


def test_a_manifest_must_fit_its_file() -> None:
    assert manifest_fault(PieceManifest(PIECE_BYTES + 1, PIECE_BYTES, bytes(64))) == ""
    assert manifest_fault(PieceManifest(PIECE_BYTES + 1, PIECE_BYTES, bytes(32)))
    assert manifest_fault(PieceManifest(PIECE_BYTES + 1, PIECE_BYTES // 2, bytes(96)))
    assert manifest_fault(PieceManifest(0, PIECE_BYTES, b""))


def test_a_wrong_file_condemns_all_who_gave_its_manifest() -> None:
    book, first, other = ManifestBook(), PieceManifest(1, PIECE_BYTES, bytes(32)), PieceManifest(2, 1, bytes(32))
    for peer, manifest in (("a", first), ("b", first), ("c", other)):
        book.add(peer, manifest)  # type: ignore[arg-type]
    assert book.choose() == first
    assert book.condemn_chosen() == {"a", "b"}
    assert book.choose() == other and book.condemn_chosen() == {"c"} and book.choose() is None


@given(st.floats(1, 1e6), st.lists(st.integers(1, 65_536), max_size=30))
def test_uploads_keep_to_their_limit(bytes_per_s: float, counts: list[int]) -> None:
    limit, now, sent = UploadLimit(bytes_per_s), 0.0, 0
    for count in counts:
        now += limit.take(count, now=now)
        assert sent <= bytes_per_s * (now + 0.25) + 1e-6
        sent += count


def test_no_limit_never_waits() -> None:
    assert UploadLimit(0).take(1 << 40, now=0.0) == 0.0


def test_the_words_are_a_closed_union() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"type": "get_model", "sha256": SHA256}, Answer)
