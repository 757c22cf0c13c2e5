"""The development chain on disk: one SQLite file that is always at a whole block, whenever the process is killed.

Holds py-evm's key-value nodes and, ready to serve, each block, transaction, receipt and log as JSON-RPC objects. Writes
wait in memory until `commit`, which puts one block down in one transaction. Never interprets what it keeps, and takes
no lock of its own: the caller serialises.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec

Json = dict[str, Any]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS nodes (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (number INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS transactions (
    hash TEXT PRIMARY KEY, block INTEGER NOT NULL, body TEXT NOT NULL, receipt TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS logs (block INTEGER NOT NULL, position INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (block, position));
"""


class ChainInUse(Exception):
    """Another process has this chain open."""


class Block(msgspec.Struct, frozen=True):
    """One mined block as JSON-RPC objects; its body lists transaction hashes. entries are (transaction, receipt)."""

    number: int
    body: Json
    entries: tuple[tuple[Json, Json], ...]


class Nodes:
    """What py-evm takes for its database: a mapping of bytes to bytes whose changes wait for `ChainStore.commit`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.changed: dict[bytes, bytes | None] = {}

    def __getitem__(self, key: bytes) -> bytes:
        if key in self.changed:
            value = self.changed[key]
        else:
            row = self._connection.execute("SELECT value FROM nodes WHERE key = ?", (key,)).fetchone()
            value = None if row is None else row[0]
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.changed[key] = value

    def __delitem__(self, key: bytes) -> None:
        self.changed[key] = None

    def __contains__(self, key: bytes) -> bool:
        try:
            self[key]
        except KeyError:
            return False
        return True


class ChainStore:
    """One chain's file. Raises ChainInUse if another process has it."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=0.2)
        try:
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise ChainInUse(str(path)) from error
        self.nodes = Nodes(self._connection)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def setting(self, name: str) -> str | None:
        """What `commit` kept under this name."""
        row = self._connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def commit(self, block: Block, settings: dict[str, str] | None = None) -> None:
        """Put down a block with everything that changed: all or nothing."""
        run = self._connection
        run.execute("BEGIN IMMEDIATE")
        try:
            self._write(block, settings or {})
        except BaseException:
            run.execute("ROLLBACK")
            raise
        run.execute("COMMIT")
        self.nodes.changed.clear()

    def discard(self) -> None:
        """Forget what changed since the last commit."""
        self.nodes.changed.clear()

    def block(self, number: int) -> Block | None:
        """The block at this height, with its transactions."""
        row = self._connection.execute("SELECT body FROM blocks WHERE number = ?", (number,)).fetchone()
        if row is None:
            return None
        found = self._connection.execute("SELECT body, receipt FROM transactions WHERE block = ?", (number,))
        entries = tuple((msgspec.json.decode(body), msgspec.json.decode(receipt)) for body, receipt in found)
        return Block(number, msgspec.json.decode(row[0]), entries)

    def height_of(self, block_hash: str) -> int | None:
        """The number of the block with this hash."""
        row = self._connection.execute("SELECT number FROM blocks WHERE hash = ?", (block_hash,)).fetchone()
        return None if row is None else int(row[0])

    def entry(self, transaction_hash: str) -> tuple[Json, Json] | None:
        """A mined transaction and its receipt."""
        query = "SELECT body, receipt FROM transactions WHERE hash = ?"
        row = self._connection.execute(query, (transaction_hash,)).fetchone()
        return None if row is None else (msgspec.json.decode(row[0]), msgspec.json.decode(row[1]))

    def logs(self, first: int, last: int) -> list[Json]:
        """The logs of these blocks, both ends included, in order."""
        query = "SELECT body FROM logs WHERE block BETWEEN ? AND ? ORDER BY block, position"
        return [msgspec.json.decode(row[0]) for row in self._connection.execute(query, (first, last))]

    def _write(self, block: Block, settings: dict[str, str]) -> None:
        run = self._connection
        changes = self.nodes.changed.items()
        kept = [(key, value) for key, value in changes if value is not None]
        run.executemany("INSERT OR REPLACE INTO nodes VALUES (?, ?)", kept)
        run.executemany("DELETE FROM nodes WHERE key = ?", [(key,) for key, value in changes if value is None])
        run.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", settings.items())
        run.execute("INSERT INTO blocks VALUES (?, ?, ?)", (block.number, block.body["hash"], _text(block.body)))
        rows = [(body["hash"], block.number, _text(body), _text(receipt)) for body, receipt in block.entries]
        run.executemany("INSERT INTO transactions VALUES (?, ?, ?, ?)", rows)
        logs = [log for _, receipt in block.entries for log in receipt["logs"]]
        run.executemany(
            "INSERT INTO logs VALUES (?, ?, ?)",
            [(block.number, position, _text(log)) for position, log in enumerate(logs)],
        )


def _text(body: Json) -> str:
    return msgspec.json.encode(body).decode()
