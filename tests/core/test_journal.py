"""The journal and the store: durable, in order, and never waiting for a watcher."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from core import events as e
from core.job import JobId, JobTerms, Price, PriorityClass
from core.journal import WATCHER_BACKLOG, Journal
from core.store import SNAPSHOT_EVERY, Store, StoreError, StoreFull

QUEUED = e.JobQueued(1.0, JobTerms(JobId("j1"), "demo", PriorityClass.BATCH), Price(1, 2), "0xp", "peer")


def voucher(cumulative: int) -> e.VoucherAccepted:
    return e.VoucherAccepted(2.0, JobId("j1"), "0xp", "0xo", "0xh", cumulative, "0xs", 1)


async def test_replay_gives_the_state_that_was(tmp_path: Path) -> None:
    journal = Journal(Store(tmp_path / "s.db"))
    await journal.record(QUEUED, voucher(5))
    again = Journal(Store(tmp_path / "s.db"))
    assert again.state == journal.state
    assert again.state.ledger.lanes["0xp"].cumulative == 5


async def test_a_snapshot_shortens_replay_and_changes_nothing(tmp_path: Path) -> None:
    journal = Journal(Store(tmp_path / "s.db"))
    await journal.record(QUEUED, *(voucher(n) for n in range(1, SNAPSHOT_EVERY + 10)))
    await journal.record(voucher(10_000))
    store = Store(tmp_path / "s.db")
    assert store.snapshot()[0] > SNAPSHOT_EVERY
    assert Journal(store).state == journal.state


async def test_watchers_get_a_snapshot_and_then_consecutive_numbers(tmp_path: Path) -> None:
    journal = Journal(Store(tmp_path / "s.db"))
    await journal.record(QUEUED)
    with journal.watch() as watcher:
        journal.announce(e.PeersCounted(1.0, 3))
        await journal.record(voucher(1))
        numbers = [watcher.events.receive_nowait().sequence for _ in range(2)]
    assert numbers == [watcher.sequence + 1, watcher.sequence + 2]


async def test_a_watcher_that_falls_behind_is_dropped_not_awaited(tmp_path: Path) -> None:
    journal = Journal(Store(tmp_path / "s.db"))
    with journal.watch() as watcher:
        for number in range(WATCHER_BACKLOG + 5):
            journal.announce(e.PeersCounted(1.0, number))
        received = [numbered async for numbered in watcher.events]
    assert len(received) == WATCHER_BACKLOG


async def test_the_owner_is_told_of_a_full_disk_and_of_its_end(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    journal = Journal(store)
    await journal.record(QUEUED)
    store._db.execute("pragma max_page_count = 1")
    with pytest.raises(StoreFull):
        await journal.record(*(voucher(n) for n in range(2_000)))
    assert "No space is left" in journal.state.trouble["disk"]
    assert not journal.state.ledger.lanes
    store._db.execute("pragma max_page_count = 1000000")
    await journal.record(voucher(1))
    assert not journal.state.trouble


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    store.append((QUEUED,))
    store._db.execute("pragma max_page_count = 1")
    with pytest.raises(StoreFull, match="No space is left"):
        store.append(tuple(voucher(n) for n in range(2_000)))
    store._db.execute("pragma max_page_count = 1000000")
    assert [fact for _, fact in store.facts()] == [QUEUED]


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "s.db").close()
    with sqlite3.connect(tmp_path / "s.db") as db:
        db.execute("pragma user_version = 99")
    with pytest.raises(StoreError, match="newer Starling"):
        Store(tmp_path / "s.db")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="cannot be used"):
        Store(tmp_path / "s.db")


def test_spending_never_lowers_what_was_signed(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    assert store.spend("0xw", 100, signed=0, at=1.0) == 100
    assert store.spend("0xw", -40, signed=0, at=2.0) == 100
    assert store.spend("0xw", 30, signed=0, at=3.0) == 100
    assert store.spend("0xw", 20, signed=0, at=4.0) == 110


async def test_no_room_for_a_snapshot_is_no_reason_to_doubt_a_fact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(sequence: int, state: object) -> None:
        raise StoreFull("No space is left.")

    store = Store(tmp_path / "s.db")
    journal = Journal(store)
    monkeypatch.setattr(store, "save_snapshot", full)
    await journal.record(*(voucher(n) for n in range(1, SNAPSHOT_EVERY + 10)))
    assert Journal(store).state.ledger.lanes["0xp"].cumulative == SNAPSHOT_EVERY + 9


def test_what_was_earned_is_for_the_owners_eyes(tmp_path: Path) -> None:
    path = tmp_path / "home" / "s.db"
    Store(path)
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_an_address_book_is_kept_for_each_network_apart(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    store.keep_known_peers("one", {"p": "a", "q": "b"})
    store.keep_known_peers("two", {"p": "c"})
    store.keep_known_peers("one", {"p": "d"})
    assert (store.known_peers("one"), store.known_peers("two"), store.known_peers("three")) == (["d"], ["c"], [])
    store.close()
