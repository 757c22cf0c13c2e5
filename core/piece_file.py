"""A file that grows from pieces, each checked before it is written, and a journal of them that outlives a kill.

Every method blocks: call it in a thread; several threads may. The file gets its own name only when all of it was read
and has the hash that was asked for. Never trusts a manifest further than that.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from typing_extensions import Buffer

from core.model_files import delete, require_space, sync
from core.model_trouble import ModelStoreError, NoSpace
from core.piece_manifest import PieceManifest

INCOMPLETE = ".incomplete"
JOURNAL = ".pieces"
_HEADER = struct.Struct("!QI64s")
_RECORD = struct.Struct("!I")


class PieceFile:
    """One file on its way. Open it once, close it in the end; what is there stays for the next time."""

    def __init__(self, path: Path, sha256: str) -> None:
        self._path = path
        self._sha256 = sha256
        self._incomplete = path.with_name(path.name + INCOMPLETE)
        self._journal_path = path.with_name(path.name + JOURNAL)
        self._file = -1
        self._journal = -1
        self._manifest: PieceManifest | None = None
        self._writing = threading.Lock()
        self._whole = _Whole()

    @property
    def path(self) -> Path:
        """Where the finished file is."""
        return self._path

    def is_finished(self) -> bool:
        """Whether the whole file is here."""
        return self._path.exists()

    def adopt(self, manifest: PieceManifest) -> frozenset[int]:
        """Go on by this manifest; the pieces that are here by it. Raises NoSpace or ModelStoreError."""
        with _told(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            known = self._read_journal(manifest)
            with self._writing:
                self.close()
            require_space(self._path.parent, manifest.file_bytes - len(known) * manifest.piece_bytes)
            self._file = os.open(self._incomplete, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            os.truncate(self._incomplete, manifest.file_bytes)
            self._manifest = manifest
            self._whole = _Whole()
            self._whole.pieces |= known
            self._write_journal(manifest, known)
        return frozenset(known)

    def put(self, index: int, parts: Sequence[Buffer]) -> bool:
        """Check and write one piece; False when it is not what the manifest says. Raises NoSpace or ModelStoreError."""
        manifest = self._by()
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        if digest.digest() != manifest.hash_of(index):
            return False
        with _told(self._path), self._writing:
            if self._file < 0 or self._manifest is not manifest:
                return True  # it came a second time, too late to matter
            os.lseek(self._file, index * manifest.piece_bytes, os.SEEK_SET)
            for part in parts:
                _write(self._file, part)
            _write(self._journal, _RECORD.pack(index))
        self._whole.add(index, parts)
        return True

    def finish(self) -> bool:
        """Whether the whole file has its hash; then it is durable under its own name. Raises ModelStoreError."""
        manifest = self._by()
        with _told(self._path):
            if self._whole.hexdigest(self._incomplete, manifest) != self._sha256:
                self._whole = _Whole()
                return False
            with self._writing:
                self.close()
            sync(self._incomplete)
            self._incomplete.replace(self._path)
            delete(self._journal_path)
        return True

    def wrong_pieces(self) -> frozenset[int]:
        """Pieces that are not on disk as they should be, after a power cut: they are no longer in the journal."""
        manifest = self._by()
        with _told(self._path), self._incomplete.open("rb") as file:
            right = set()
            for index in range(manifest.pieces):
                piece = file.read(manifest.piece_bytes)
                if hashlib.sha256(piece).digest() == manifest.hash_of(index):
                    right.add(index)
            self._whole.pieces |= right
            os.close(self._journal)
            self._write_journal(manifest, right)
        return frozenset(range(manifest.pieces)) - right

    def close(self) -> None:
        """Let go of the files. Twice is once."""
        for opened in (self._file, self._journal):
            if opened >= 0:
                os.close(opened)
        self._file = self._journal = -1

    def _by(self) -> PieceManifest:
        if self._manifest is None:
            raise RuntimeError("no manifest was adopted")
        return self._manifest

    def _read_journal(self, manifest: PieceManifest) -> set[int]:
        """The pieces that an earlier run verified, as far as this manifest says the same of them."""
        try:
            text = self._journal_path.read_bytes()
            size = self._incomplete.stat().st_size
        except FileNotFoundError:
            return set()
        if len(text) < _HEADER.size:
            return set()
        file_bytes, pieces, sha256 = _HEADER.unpack_from(text)
        start = _HEADER.size + 32 * pieces
        is_ours = (sha256.decode("ascii", "replace"), file_bytes, size) == (
            self._sha256, manifest.file_bytes, manifest.file_bytes,
        )  # fmt: skip
        if not is_ours or len(text) < start:
            return set()
        before = PieceManifest(file_bytes, manifest.piece_bytes, text[_HEADER.size : start])
        whole = len(text) - (len(text) - start) % _RECORD.size
        found = {index for (index,) in _RECORD.iter_unpack(text[start:whole])}
        return {i for i in found if i < manifest.pieces and before.hash_of(i) == manifest.hash_of(i)}

    def _write_journal(self, manifest: PieceManifest, known: set[int]) -> None:
        part = self._journal_path.with_name(self._journal_path.name + INCOMPLETE)
        header = _HEADER.pack(manifest.file_bytes, manifest.pieces, self._sha256.encode())
        part.write_bytes(header + manifest.hashes + b"".join(_RECORD.pack(index) for index in sorted(known)))
        part.replace(self._journal_path)
        flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._journal = os.open(self._journal_path, flags)


class _Whole:
    """The hash of the file from its start, as far as its pieces are here."""

    def __init__(self) -> None:
        self.pieces: set[int] = set()
        self._digest = hashlib.sha256()
        self._next = 0
        self._hashing = threading.Lock()

    def add(self, index: int, parts: Sequence[Buffer]) -> None:
        """A piece was written; the next one from the start is hashed while it is in memory."""
        with self._hashing:
            self.pieces.add(index)
            if index == self._next:
                for part in parts:
                    self._digest.update(part)
                self._next += 1

    def hexdigest(self, path: Path, manifest: PieceManifest) -> str:
        """The hash of all; what was not hashed as it came is read."""
        with self._hashing, path.open("rb") as file:
            file.seek(self._next * manifest.piece_bytes)
            while piece := file.read(manifest.piece_bytes):
                self._digest.update(piece)
            return self._digest.hexdigest()


def _write(opened: int, part: Buffer) -> None:
    rest = memoryview(part)
    while len(rest):
        rest = rest[os.write(opened, rest) :]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system refuses, as one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                f"There is no space left for {path.name} in {path.parent}. What was fetched is kept: free some and "
                "fetch it again."
            ) from error
        raise ModelStoreError(f"{path.name} cannot be written: {error.strerror or type(error).__name__}.") from error
