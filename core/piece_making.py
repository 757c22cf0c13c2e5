"""The pieces of a model file that is here: read once, kept beside the models, made again when the file has changed.

Blocks: call it in a thread. Never tells of a file that is not what its hash says.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

from core.model_index import PART
from core.piece_manifest import PIECE_BYTES, PieceManifest, manifest_fault

KEPT_IN = "_pieces"  # no model can be called so
_HEADER = struct.Struct("!QQ")


def manifest_of(path: Path, sha256: str, *, store: Path) -> PieceManifest | None:
    """The file's pieces; None when it is not the file with this hash. Raises OSError."""
    state = path.stat()
    kept = store / KEPT_IN / sha256
    known = _kept(kept, (state.st_size, state.st_mtime_ns))
    if known is not None:
        return known
    whole, hashes = hashlib.sha256(), []
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            whole.update(piece)
            hashes.append(hashlib.sha256(piece).digest())
    manifest = PieceManifest(state.st_size, PIECE_BYTES, b"".join(hashes))
    if whole.hexdigest() != sha256 or manifest_fault(manifest):
        return None
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_name(f"{sha256}-{os.getpid()}{PART}")
    part.write_bytes(_HEADER.pack(state.st_size, state.st_mtime_ns) + manifest.hashes)
    part.replace(kept)
    return manifest


def forget_others(store: Path, wanted: frozenset[str]) -> None:
    """Delete what is kept of files that are not wanted any more."""
    for kept in (store / KEPT_IN).glob("*"):
        if kept.name not in wanted:
            kept.unlink(missing_ok=True)


def _kept(path: Path, state: tuple[int, int]) -> PieceManifest | None:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(text) < _HEADER.size or _HEADER.unpack_from(text) != state:
        return None
    manifest = PieceManifest(state[0], PIECE_BYTES, text[_HEADER.size :])
    return None if manifest_fault(manifest) else manifest
