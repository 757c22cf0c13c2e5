"""What is known of peers' conduct outlives a restart, within bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from app.trust_keeper import WRITE_EVERY_S, TrustKeeper
from core.job import PeerId
from core.store import Store
from p2p.trust import Fault

NOW = 1e9
PEER = PeerId("peer")


async def test_a_ban_and_finished_jobs_outlive_a_restart(tmp_path: Path, autojump_clock: MockClock) -> None:
    store = Store(tmp_path / "s.db")
    keeper = TrustKeeper(store)
    trust = keeper.load()
    trust.note_finished(PEER, now=NOW)
    while not trust.note(PeerId("rude"), Fault.BAD_FRAME, now=NOW):
        continue
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(2 * WRITE_EVERY_S)
        nursery.cancel_scope.cancel()
    store.close()
    again = TrustKeeper(Store(tmp_path / "s.db")).load()
    assert again.of(PEER).finished == 1
    assert again.banned(now=NOW + 1) == (PeerId("rude"),)
    assert again.banned(now=NOW + 1_000) == ()


async def test_what_changed_last_is_written_when_the_swarm_is_left(tmp_path: Path, autojump_clock: MockClock) -> None:
    store = Store(tmp_path / "s.db")
    keeper = TrustKeeper(store)
    trust = keeper.load()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(0.1)
        trust.note_finished(PEER, now=NOW)
        nursery.cancel_scope.cancel()
    assert TrustKeeper(store).load().of(PEER).finished == 1


def test_what_cannot_be_read_is_not_believed(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    store.keep_standings({"peer": '{"finished": "many"}', "other": '{"finished": 2}'}, at=NOW)
    trust = TrustKeeper(store).load()
    assert (trust.of(PEER).finished, trust.of(PeerId("other")).finished) == (0, 2)


def test_only_so_many_peers_are_kept_the_newest_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.store.KEPT_STANDINGS", 3)
    store = Store(tmp_path / "s.db")
    for number in range(6):
        store.keep_standings({f"p{number}": "{}"}, at=NOW + number)
    assert [peer for peer, _ in store.standings()] == ["p3", "p4", "p5"]
