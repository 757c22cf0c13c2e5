"""What is done to model files: look whether they are there, hash, copy or link, put in place, count the free space.

Every function blocks: call it in a thread. Long ones heed cancellation and tell how far they are. Never writes to a
final name but by a rename.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from core.model_shards import shard_names
from core.model_trouble import BadModelFile, ModelStoreError, NoSpace

MAGIC = b"GGUF"
PIECE_BYTES = 8 << 20
LINK_FROM_BYTES = 1 << 30
SPACE_SPARE_BYTES = 64 << 20

Tell = Callable[[float, str], None]


def shards_beside(path: Path) -> tuple[Path, ...]:
    """Every file of the model that this one belongs to, first shard first. Raises BadModelFile when one is no GGUF, or
    missing."""
    paths = tuple(path.with_name(name) for name in shard_names(path.name))
    missing = [shard.name for shard in paths if len(paths) > 1 and not shard.is_file()]
    if missing:
        raise BadModelFile(f"{path.name} is one of {len(paths)} shards, and {', '.join(missing[:3])} is missing.")
    for shard in paths:
        _check_magic(shard)
    return paths


def hash_file(path: Path, tell: Tell) -> str:
    """The sha256 of a file."""
    digest = hashlib.sha256()
    total = max(1, path.stat().st_size)
    done = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            trio.from_thread.check_cancelled()
            digest.update(piece)
            done += len(piece)
            trio.from_thread.run_sync(tell, done / total, f"Checking {path.name}")
    return digest.hexdigest()


def joint_sha256(hashes: Sequence[str]) -> str:
    """One hash for all shards: that of their hashes one after another; a single file keeps its own."""
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256(b"".join(bytes.fromhex(one) for one in hashes)).hexdigest()


def copy_or_link(source: Path, target: Path, *, sha256: str, tell: Tell) -> None:
    """Have a file's content under another name: a large one is linked where that works, which saves its time and space;
    a small one is copied, so that nobody's later edit reaches ours. Raises ModelStoreError or NoSpace."""
    try:
        if source.stat().st_size >= LINK_FROM_BYTES and _link(source, target):
            return
        require_space(target.parent, source.stat().st_size)
        copied = _copy(source, target, tell=tell)
    except OSError as error:
        raise ModelStoreError(f"{source.name} cannot be copied into the store: {error.strerror}.") from error
    if copied != sha256:
        raise ModelStoreError(f"{source.name} changed while it was being copied. Try again when nothing writes to it.")


def sync(path: Path) -> None:
    """Return when the file's bytes are on disk."""
    with path.open("r+b" if sys.platform == "win32" else "rb") as file:  # Windows syncs only what may be written
        os.fsync(file.fileno())


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raises NoSpace when the disk has too little for so much more."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + SPACE_SPARE_BYTES:
        gigabytes = f"{needed_bytes / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free"
        raise NoSpace(f"There is too little space in {folder}: {gigabytes}. Free some and try again.")


def delete(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def share(tell: Tell, index: int, *, count: int) -> Tell:
    """Tell of one piece of work among several of the same size."""
    return lambda fraction, text: tell((index + fraction) / count, text)


def span(tell: Tell, start: float, *, end: float) -> Tell:
    """Tell of work that goes from one fraction of the whole to another."""
    return lambda fraction, text: tell(start + (end - start) * fraction, text)


def _check_magic(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except OSError as error:
        raise BadModelFile(f"{path.name} cannot be read: {error.strerror}.") from error
    if magic != MAGIC:
        raise BadModelFile(f"{path.name} is not a GGUF model file.")


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


def _copy(source: Path, target: Path, *, tell: Tell) -> str:
    """The sha256 of what was copied."""
    digest = hashlib.sha256()
    total = max(1, source.stat().st_size)
    done = 0
    with source.open("rb") as reader, target.open("wb") as writer:
        while piece := reader.read(PIECE_BYTES):
            trio.from_thread.check_cancelled()
            writer.write(piece)
            digest.update(piece)
            done += len(piece)
            trio.from_thread.run_sync(tell, done / total, f"Copying {source.name}")
    return digest.hexdigest()
