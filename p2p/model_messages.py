"""The words of `/starling/model/1.0.0`: model files by the sha256 of what is in them, in pieces. Pure.

Raw bytes follow two of the answers, as many as they say. Never a path: a peer asks for hashes alone.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from core.model_card import MAX_NAME_CHARACTERS
from core.model_shards import MAX_SHARDS
from core.piece_manifest import HASH_BYTES, MAX_PIECES, PIECE_BYTES

MODEL_PROTOCOL = "/starling/model/1.0.0"
MAX_QUESTION_BYTES = 4_096
MAX_ANSWER_BYTES = 131_072
MAX_ASKED_PIECES = 16
MAX_FILE_BYTES = MAX_PIECES * PIECE_BYTES

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
ShortText = Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARACTERS)]
PieceIndex = Annotated[int, msgspec.Meta(ge=0, lt=MAX_PIECES)]


class GetModel(msgspec.Struct, frozen=True, tag="get_model"):
    """Do you give away the model with this hash? That of its one file, or the joint one of its shards."""

    sha256: Sha256


class GetManifest(msgspec.Struct, frozen=True, tag="get_manifest"):
    """What are the pieces of this file?"""

    sha256: Sha256


class GetPieces(msgspec.Struct, frozen=True, tag="get_pieces"):
    """Send these pieces of this file, in this order."""

    sha256: Sha256
    pieces: Annotated[tuple[PieceIndex, ...], msgspec.Meta(min_length=1, max_length=MAX_ASKED_PIECES)]


class OneFile(msgspec.Struct, frozen=True):
    """One file of a model."""

    sha256: Sha256
    file_bytes: Annotated[int, msgspec.Meta(gt=0, le=MAX_FILE_BYTES)]


class ModelHere(msgspec.Struct, frozen=True, tag="model"):
    """Yes: its files, first shard first, and what the source says of it. license as the file's header names it."""

    files: Annotated[tuple[OneFile, ...], msgspec.Meta(min_length=1, max_length=MAX_SHARDS)]
    model: ShortText = ""
    title: ShortText = ""
    quantization: ShortText = ""
    license: ShortText = ""


class ManifestHere(msgspec.Struct, frozen=True, tag="manifest"):
    """The file's pieces; hash_bytes raw bytes follow, the sha256 of each piece."""

    file_bytes: Annotated[int, msgspec.Meta(gt=0, le=MAX_FILE_BYTES)]
    piece_bytes: Annotated[int, msgspec.Meta(gt=0, le=PIECE_BYTES)]
    hash_bytes: Annotated[int, msgspec.Meta(gt=0, le=MAX_PIECES * HASH_BYTES)]


class PieceHere(msgspec.Struct, frozen=True, tag="piece"):
    """One piece; length raw bytes follow."""

    index: PieceIndex
    length: Annotated[int, msgspec.Meta(gt=0, le=PIECE_BYTES)]


class NotHere(msgspec.Struct, frozen=True, tag="not_here"):
    """No. retry_after_s: it may be asked again then; 0: it will not change soon."""

    reason: Annotated[str, msgspec.Meta(max_length=200)]
    retry_after_s: Annotated[float, msgspec.Meta(ge=0, le=3_600)] = 0.0


Question = GetModel | GetManifest | GetPieces
Answer = ModelHere | ManifestHere | PieceHere | NotHere


def raw_length(answer: Answer) -> int:
    """How many raw bytes follow this answer."""
    match answer:
        case ManifestHere(hash_bytes=length) | PieceHere(length=length):
            return length
        case _:
            return 0
