"""A model file in pieces: how long they are and what each one's sha256 is.

Pure. Never believes a manifest: only a finished file with the right hash proves the one it was fetched by.
"""

from __future__ import annotations

import hashlib

import msgspec

PIECE_BYTES = 1 << 20
MAX_PIECES = 1 << 18
HASH_BYTES = 32


class PieceManifest(msgspec.Struct, frozen=True):
    """hashes is the sha256 of each piece, one after another; all pieces but the last have piece_bytes."""

    file_bytes: int
    piece_bytes: int
    hashes: bytes

    @property
    def pieces(self) -> int:
        """How many there are."""
        return len(self.hashes) // HASH_BYTES

    @property
    def key(self) -> str:
        """What tells this manifest from every other."""
        start = f"{self.file_bytes}/{self.piece_bytes}/".encode()
        return hashlib.sha256(start + self.hashes).hexdigest()

    def hash_of(self, index: int) -> bytes:
        """The sha256 that this piece must have."""
        return self.hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES]

    def length_of(self, index: int) -> int:
        """How many bytes this piece has."""
        return min(self.piece_bytes, self.file_bytes - index * self.piece_bytes)


def piece_count(file_bytes: int) -> int:
    """How many pieces a file of this length has."""
    return -(-file_bytes // PIECE_BYTES)


def manifest_fault(manifest: PieceManifest) -> str:
    """Why this manifest cannot be used; empty when it can."""
    if manifest.piece_bytes != PIECE_BYTES:
        return f"pieces of {manifest.piece_bytes} bytes"
    if not 0 < piece_count(manifest.file_bytes) <= MAX_PIECES:
        return f"a file of {manifest.file_bytes} bytes"
    if len(manifest.hashes) != HASH_BYTES * piece_count(manifest.file_bytes):
        return "a hash too many or too few"
    return ""
