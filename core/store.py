"""The one SQLite file of a home: facts in order, transactions before they are broadcast, and what a payer has signed.

The only importer of sqlite_utils. Blocking: the engine calls it in a thread. Never stores a prompt, an answer or a key.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import sqlite_utils

from core.events import Fact
from core.node_state import NodeState

BUSY_TIMEOUT_S = 10.0
SNAPSHOT_EVERY = 500
# Every job leaves a row of what was measured; the state holds their means, and only these many rows are kept.
KEPT_SPEEDS = 4_096
KEPT_PEERS = 256
KEPT_STANDINGS = 4_096
FULL_MESSAGES = ("full", "disk i/o error")

_encode = msgspec.json.Encoder().encode
_FORGET_SPEEDS = """
    delete from facts where tag = 'speed_measured' and sequence <= coalesce(
        (select sequence from facts where tag = 'speed_measured' order by sequence desc limit 1 offset ?), 0)
"""
_FORGET_STANDINGS = """
    delete from standings where peer not in (select peer from standings order by at desc, rowid desc limit ?)
"""
_FORGET_PEERS = """
    delete from peer_rows where peer not in (select peer from peer_rows order by day desc, rowid desc limit ?)
"""


class StoreError(Exception):
    """The store cannot be used; the message is one sentence for the owner."""


class StoreFull(StoreError):
    """There is no space left to write; nothing that was written before is lost."""


def _create_facts(db: sqlite_utils.Database) -> None:
    db["facts"].create({"sequence": int, "at": float, "tag": str, "body": str}, pk="sequence")
    db["snapshots"].create({"sequence": int, "version": int, "body": str}, pk="sequence")


def _create_outbox(db: sqlite_utils.Database) -> None:
    db["outbox"].create({"transaction": str, "raw": str, "purpose": str, "at": float}, pk="transaction")


def _create_spending(db: sqlite_utils.Database) -> None:
    db["spending"].create({"worker": str, "cumulative": str, "used": str, "at": float}, pk="worker")


def _index_speeds(db: sqlite_utils.Database) -> None:
    db.execute("create index speeds on facts (sequence) where tag = 'speed_measured'")


def _create_peer_rows(db: sqlite_utils.Database) -> None:
    db["peer_rows"].create({"peer": str, "day": int, "body": str}, pk="peer")


def _create_known_peers(db: sqlite_utils.Database) -> None:
    db["known_peers"].create({"network": str, "peer": str, "body": str}, pk=("network", "peer"))


def _create_standings(db: sqlite_utils.Database) -> None:
    db["standings"].create({"peer": str, "at": float, "body": str}, pk="peer")


MIGRATIONS: tuple[Callable[[sqlite_utils.Database], None], ...] = (
    _create_facts, _create_outbox, _create_spending, _index_speeds, _create_peer_rows,
    _create_known_peers, _create_standings,
)  # fmt: skip
STATE_VERSION = 1


class Store:
    """Open once per process and home. Safe to call from several threads, one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with _readable_errors(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None)
            self._db = sqlite_utils.Database(connection)
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=full")
            self._migrate()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.conn.close()

    def append(self, facts: tuple[Fact, ...]) -> None:
        """Make these facts durable, all or none. Raises StoreFull or StoreError, and then none is kept."""
        rows = [(fact.at, fact.__struct_config__.tag, _encode(fact).decode()) for fact in facts]
        with self._writing() as db:
            db.conn.executemany("insert into facts (at, tag, body) values (?, ?, ?)", rows)

    def facts(self, *, after: int = 0) -> Iterator[tuple[int, Fact]]:
        """Every fact after this sequence number, in order. An unreadable row is an error: money may hang on it."""
        decoder = msgspec.json.Decoder(Fact)
        with self._lock:
            rows = self._db.execute("select sequence, body from facts where sequence > ? order by sequence", [after])
            listed = rows.fetchall()
        for sequence, body in listed:
            try:
                yield sequence, decoder.decode(body)
            except msgspec.MsgspecError as error:
                raise StoreError(f"Entry {sequence} of {self._path} cannot be read: {error}.") from error

    def save_snapshot(self, sequence: int, state: NodeState) -> None:
        """Keep the state as of this fact, so that the next start need not replay everything; the oldest rows of what
        was measured go."""
        with self._writing() as db:
            db.execute(_FORGET_SPEEDS, [KEPT_SPEEDS])
            db.execute("delete from snapshots")
            db.execute("insert into snapshots values (?, ?, ?)", [sequence, STATE_VERSION, _encode(state).decode()])

    def snapshot(self) -> tuple[int, NodeState]:
        """The newest usable snapshot, or nothing known at fact 0."""
        with self._lock:
            row = self._db.execute(
                "select sequence, body from snapshots where version = ? order by sequence desc", [STATE_VERSION]
            ).fetchone()
        if row is None:
            return 0, NodeState()
        try:
            return row[0], msgspec.json.decode(row[1], type=NodeState)
        except msgspec.MsgspecError:
            return 0, NodeState()

    def keep_transaction(self, transaction: str, raw: str, *, purpose: str, at: float) -> None:
        """Write a signed transaction down before anyone broadcasts it."""
        with self._writing() as db:
            db.execute("insert or ignore into outbox values (?, ?, ?, ?)", [transaction, raw, purpose, at])

    def transaction(self, transaction: str) -> str | None:
        """The signed bytes of a transaction that was written down, as hex."""
        with self._lock, _readable_errors(self._path):
            row = self._db.execute("select raw from outbox where [transaction] = ?", [transaction]).fetchone()
        return None if row is None else str(row[0])

    def spend(self, worker: str, change: int, *, signed: int, at: float) -> int:
        """Count this much more (or less) as owed on a worker's lane; the cumulative to sign, durable before anyone sees
        it. signed is the highest that the wallet knows of: what of it this store does not know was used.

        What was signed beyond what was used stays as credit for the next job: a cumulative never falls.
        """
        with self._writing() as db:
            row = db.execute("select cumulative, used from spending where worker = ?", [worker]).fetchone()
            known, used = (0, 0) if row is None else (int(row[0]), int(row[1]))
            used = max(0, used + max(0, signed - known) + change)
            cumulative = max(known, signed, used)
            values = [worker, str(cumulative), str(used), at]
            db.execute("insert or replace into spending values (?, ?, ?, ?)", values)
        return cumulative

    def keep_peer_rows(self, peer: str, body: str, *, day: int) -> None:
        """Keep what one peer has measured, in the place of what it said before; of too many peers the oldest go."""
        with self._writing() as db:
            db.execute("insert or replace into peer_rows values (?, ?, ?)", [peer, day, body])
            db.execute(_FORGET_PEERS, [KEPT_PEERS])

    def peer_rows(self) -> list[str]:
        """What is kept of peers' measurements, the oldest first."""
        with self._lock, _readable_errors(self._path):
            rows = self._db.execute("select body from peer_rows order by day, rowid").fetchall()
        return [str(body) for (body,) in rows]

    def keep_known_peers(self, network: str, bodies: dict[str, str]) -> None:
        """Keep the whole address book of one network (its swarm id), in the place of what was there: peer id to
        body."""
        with self._writing() as db:
            db.execute("delete from known_peers where network = ?", [network])
            rows = [(network, peer, body) for peer, body in bodies.items()]
            db.conn.executemany("insert into known_peers values (?, ?, ?)", rows)

    def known_peers(self, network: str) -> list[str]:
        """The address book of one network, in no order."""
        with self._lock, _readable_errors(self._path):
            rows = self._db.execute("select body from known_peers where network = ?", [network]).fetchall()
        return [str(body) for (body,) in rows]

    def keep_standings(self, bodies: dict[str, str], *, at: float) -> None:
        """Keep what is known of these peers' conduct, in the place of what was; of too many the oldest go."""
        with self._writing() as db:
            rows = [(peer, at, body) for peer, body in bodies.items()]
            db.conn.executemany("insert or replace into standings values (?, ?, ?)", rows)
            db.execute(_FORGET_STANDINGS, [KEPT_STANDINGS])

    def standings(self) -> list[tuple[str, str]]:
        """Peers and what is known of their conduct, the oldest first."""
        with self._lock, _readable_errors(self._path):
            rows = self._db.execute("select peer, body from standings order by at, rowid").fetchall()
        return [(str(peer), str(body)) for peer, body in rows]

    def _migrate(self) -> None:
        done = self._db.execute("pragma user_version").fetchone()[0]
        if done > len(MIGRATIONS):
            raise StoreError(f"{self._path} was written by a newer Starling; update the app to open it.")
        for number, migration in enumerate(MIGRATIONS[done:], start=done + 1):
            migration(self._db)
            self._db.execute(f"pragma user_version = {number}")

    @contextmanager
    def _writing(self) -> Iterator[sqlite_utils.Database]:
        with self._lock, _readable_errors(self._path):
            self._db.execute("begin immediate")
            try:
                yield self._db
                self._db.execute("commit")
            except BaseException:
                if self._db.conn.in_transaction:
                    self._db.execute("rollback")
                raise


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, OSError) and error.errno == 28 or any(m in str(error).lower() for m in FULL_MESSAGES):
            sentence = f"No space is left for {path}; nothing is lost. Free some space and start again."
            raise StoreFull(sentence) from error
        raise StoreError(f"{path} cannot be used: {error}.") from error
