"""What is being fetched from the hub, and what was before it was cut short: one folder for each set of files, named by
their hashes, so that going on can never mix two versions.

Never gives a file away that does not have the hash that the hub promised.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import trio

from core.model_download.link import HubLink
from core.model_download.messages import HubFile, Listed
from core.model_files import Tell, delete, hash_file, require_space, span
from core.model_trouble import HubTrouble

DOWNLOADS = "_downloads"  # no model can be called so
INCOMPLETE = ".incomplete"
KEPT_S = 14 * 86_400.0
FETCH_SHARE = 0.9


class Downloads:
    """The downloads of one store."""

    def __init__(self, store: Path) -> None:
        self._folder = store / DOWNLOADS

    async def fetch(
        self, hub: HubLink, listing: Listed, *, files: tuple[HubFile, ...], tell: Tell
    ) -> tuple[Path, ...]:
        """Have these files, all with their promised hash. Raises HubTrouble or NoSpace; then what there is stays, but
        for a file with another hash."""
        folder = self._folder / _key(files)
        await trio.to_thread.run_sync(_prepare, folder, files)
        total, done = sum(file.file_bytes for file in files) or 1, 0
        paths = []
        for file in files:
            start, end = done / total, (done + file.file_bytes) / total
            paths.append(await _fetch_one(hub, listing, file=file, folder=folder, tell=span(tell, start, end=end)))
            done += file.file_bytes
        return tuple(paths)

    def unfinished_bytes(self) -> int:
        """What is kept to be gone on with; blocking."""
        return sum(_size(path) for path in self._folder.rglob("*"))

    def clean(self, now: float) -> None:
        """Give up what nobody has gone on with for two weeks; blocking."""
        for folder in self._folder.glob("*"):
            files = tuple(folder.glob("*")) or (folder,)
            if now - max(file.stat().st_mtime for file in files) > KEPT_S:
                delete(folder)


async def _fetch_one(hub: HubLink, listing: Listed, *, file: HubFile, folder: Path, tell: Tell) -> Path:
    """One file: fetched, then read again for its hash, then under its own name."""
    name = file.name.rpartition("/")[2]
    path, incomplete = folder / name, folder / f"{name}{INCOMPLETE}"
    if path.exists():
        return path
    size = max(1, file.file_bytes)
    text = f"Fetching {name}"
    await hub.fetch(file, incomplete, of=listing, tell=lambda done: tell(FETCH_SHARE * min(1.0, done / size), text))
    sha256 = await trio.to_thread.run_sync(hash_file, incomplete, span(tell, FETCH_SHARE, end=1.0))
    if sha256 != file.sha256:
        await trio.to_thread.run_sync(delete, incomplete)
        raise HubTrouble(f"{name} from {listing.repo} is not what the hub promised, so it was thrown away. Try again.")
    await trio.to_thread.run_sync(incomplete.replace, path)
    return path


def _size(path: Path) -> int:
    """Of a file; one that has just been put in its place is none any more."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0


def _prepare(folder: Path, files: tuple[HubFile, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for path in folder.glob("*"))
    require_space(folder, max(0, sum(file.file_bytes for file in files) - there))


def _key(files: tuple[HubFile, ...]) -> str:
    return hashlib.sha256("".join(file.sha256 for file in files).encode()).hexdigest()[:24]
