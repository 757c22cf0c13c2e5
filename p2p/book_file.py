"""An address book in a file, for peers that have no store: one JSON list, replaced whole.

Never raises for a file that cannot be read or written: the book is then kept in memory only.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import trio

from core.private_file import write_private
from p2p.address_book import KnownPeer

MAX_FILE_BYTES = 16 << 20

log = logging.getLogger(__name__)


class BookFile:
    """One network's book at one path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def load(self) -> tuple[KnownPeer, ...]:
        """Everyone of last time."""
        return await trio.to_thread.run_sync(self._read)

    async def save(self, peers: tuple[KnownPeer, ...]) -> None:
        """Replace the file."""
        await trio.to_thread.run_sync(self._write, msgspec.json.encode(peers))

    def _read(self) -> tuple[KnownPeer, ...]:
        try:
            if self._path.stat().st_size > MAX_FILE_BYTES:
                return ()
            return msgspec.json.decode(self._path.read_bytes(), type=tuple[KnownPeer, ...])
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("the address book of last time is not read: %s", type(error).__name__)
            return ()

    def _write(self, text: bytes) -> None:
        try:
            write_private(self._path, text)
        except OSError as error:
            log.debug("the address book is kept in memory only: %s", type(error).__name__)
