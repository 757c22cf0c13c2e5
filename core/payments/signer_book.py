"""The highest cumulative that a wallet has signed for each worker: one file for all processes of a home.

Never forgets, never falls, and is on disk before anyone sees a voucher. Holds amounts and party ids, no key. Blocking:
raise_to syncs a file.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from core.payments.voucher import EscrowDomain
from core.trouble import Trouble

BUSY_TIMEOUT_S = 10.0
_TABLE = """
    create table if not exists signed (
        chain_id text not null, contract text not null, worker text not null, cumulative text not null,
        primary key (chain_id, contract, worker)
    ) without rowid
"""
_PLACE = "where chain_id = ? and contract = ? and worker = ?"


class SignerBookUnusable(Trouble):
    """The book cannot be read or written; the message is for the owner. Nothing is signed without it."""


class LowerCumulative(ValueError):
    """We were asked to sign less than was signed before, here or in another process of this home."""


class _Line(msgspec.Struct, frozen=True):
    """One line of the journal that wallets had before this book."""

    domain: EscrowDomain
    worker: str
    cumulative: int


class SignerBook:
    """Open it once a process; threads may share it. journal: an older wallet's, taken in once and then removed. Raises
    SignerBookUnusable, as every method does."""

    def __init__(self, path: Path, *, journal: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        with _told(path):
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None)
            self._db.execute("pragma synchronous=full")
            self._db.execute(_TABLE)
        if journal is not None:
            self._take_in(journal)

    def cumulative(self, domain: EscrowDomain, worker: str) -> int:
        """The highest amount ever signed for this worker (a party id) at this escrow."""
        with self._lock, _told(self._path):
            return self._known(_place(domain, worker))

    def raise_to(self, domain: EscrowDomain, worker: str, *, cumulative: int) -> None:
        """Durably, before it returns. Raises LowerCumulative."""
        place = _place(domain, worker)
        with self._writing():
            known = self._known(place)
            if cumulative < known:
                raise LowerCumulative(f"asked to sign {cumulative} after {known}")
            if cumulative > known:
                self._db.execute("insert or replace into signed values (?, ?, ?, ?)", [*place, str(cumulative)])

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def _known(self, place: tuple[str, str, str]) -> int:
        row = self._db.execute(f"select cumulative from signed {_PLACE}", place).fetchone()  # noqa: S608
        return 0 if row is None else int(row[0])

    def _take_in(self, journal: Path) -> None:
        """A torn last line was never handed out. Whoever comes second finds the journal gone, or takes it in again."""
        with self._writing():
            try:
                lines = journal.read_bytes().split(b"\n")[:-1]
            except FileNotFoundError:
                return
            for line in lines:
                entry = _line(line, journal)
                place = _place(entry.domain, entry.worker)
                highest = max(entry.cumulative, self._known(place))
                self._db.execute("insert or replace into signed values (?, ?, ?, ?)", [*place, str(highest)])
        journal.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock, _told(self._path):
            self._db.execute("begin immediate")
            try:
                yield
                self._db.execute("commit")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise


def _place(domain: EscrowDomain, worker: str) -> tuple[str, str, str]:
    return str(domain.chain_id), domain.contract.lower(), worker


def _line(line: bytes, journal: Path) -> _Line:
    try:
        return msgspec.json.decode(line, type=_Line)
    except msgspec.MsgspecError as error:
        raise SignerBookUnusable(f"{journal} is damaged. Without it nothing is signed.") from error


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise SignerBookUnusable(f"{path} cannot be used: {error}. Without it nothing is signed.") from error
