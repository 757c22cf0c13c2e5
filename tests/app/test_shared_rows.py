"""Laws of sharing: nothing leaves unless the owner says so, only what was measured, and what was heard is kept."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from app.shared_rows import SharedRows
from core import events as e
from core.device import Benchmark, Device, DeviceKind, Machine, ModelShape
from core.journal import Journal
from core.settings import Settings
from core.store import KEPT_PEERS, Store
from p2p.identity import Identity
from p2p.row_exchange import DAY_S
from p2p.row_messages import ROWS_PROTOCOL, SignedRows, rows_bytes
from p2p.swarm import Swarm

GIB = 1 << 30
GPU = Device("CUDA0", "RTX of Jane", DeviceKind.GPU, "CUDA", 8 * GIB, 7 * GIB, pci_id="0000:01:00.0", driver="550")
SHARES = Settings(share_measurements=True)
MEASURED = Benchmark(
    5.0, GPU, "llama.cpp 1", 400.0, 40.0, "made", "Q8_0", 1_200_000_000, 900.0, 140.0,
    decode_by_batch={1: 140.0, 4: 300.0}, shape=ModelShape(1_100_000_000, 22, 2048, 512),
)  # fmt: skip
SEEDS = (b"\x01" * 32, b"\x02" * 32)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    found = Store(tmp_path / "s.db")
    yield found
    found.close()


async def measured(store: Store, times: int = 3) -> Journal:
    journal = Journal(store)
    journal.announce(e.MachineFound(1.0, Machine((GPU,), 4, 16 * GIB, "llama.cpp 1")))
    for _ in range(times):
        await journal.record(e.BenchmarkFinished(5.0, MEASURED))
    return journal


@asynccontextmanager
async def joined(*pairs: tuple[bytes, SharedRows]) -> AsyncIterator[list[Swarm]]:
    """Swarms of these homes; the first is the bootstrap peer of the others."""
    swarms: list[Swarm] = []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for seed, rows in pairs:
                known = swarms[0].addresses() if swarms else ()
                swarm = Swarm(Identity(seed), port=0, bootstrap=known, network="test")
                swarm.serve(ROWS_PROTOCOL, rows.exchange(Identity(seed)).serve)
                await nursery.start(swarm.run)
                swarms.append(swarm)
            while any(not swarm.peer_count for swarm in swarms):
                await trio.sleep(0.01)
            yield swarms
            nursery.cancel_scope.cancel()


async def test_nothing_is_told_unless_the_owner_shares(store: Store) -> None:
    assert SharedRows(await measured(store), store, settings=Settings()).own() == ()


async def test_what_was_measured_is_told_without_names(store: Store) -> None:
    rows = SharedRows(await measured(store), store, settings=SHARES).own()
    assert {(row.batch, row.decode_tokens_per_s, row.bandwidth_gbs) for row in rows} == {
        (1.0, 140.0, 400.0), (4.0, 300.0, 400.0)
    }  # fmt: skip
    assert "Jane" not in msgspec.json.encode(rows).decode()


async def test_a_few_runs_are_not_told(store: Store) -> None:
    assert SharedRows(await measured(store, 2), store, settings=SHARES).own() == ()


async def test_another_driver_has_nothing_to_tell(store: Store) -> None:
    journal = await measured(store)
    renewed = msgspec.structs.replace(GPU, driver="560")
    journal.announce(e.MachineFound(9.0, Machine((renewed,), 4, 16 * GIB, "llama.cpp 1")))
    assert SharedRows(journal, store, settings=SHARES).own() == ()


async def test_rows_travel_between_two_homes_and_survive_a_restart(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other.db")
    telling = SharedRows(await measured(store), store, settings=SHARES)
    asking = SharedRows(Journal(other), other, settings=Settings())
    async with joined((SEEDS[0], telling), (SEEDS[1], asking)) as (teller, asker):
        assert await asking.exchange(Identity(SEEDS[1])).ask(asker, teller.peer_id) == 1
    assert {heard.peer for heard in asking.heard()} == {Identity(SEEDS[0]).peer_id}
    again = SharedRows(Journal(other), other, settings=Settings())
    again.load()
    assert again.heard() == asking.heard() and len(again.heard()) == 2
    deaf = SharedRows(Journal(other), other, settings=Settings(learn_from_peers=False))
    deaf.load()
    assert deaf.heard() == ()
    other.close()


async def test_what_was_tampered_with_on_disk_is_not_believed(store: Store) -> None:
    today = int(time.time() // DAY_S)
    rows = SharedRows(await measured(store), store, settings=SHARES).own()
    forged = SignedRows(Identity(SEEDS[0]).peer_id, today, rows, Identity(SEEDS[1]).sign(b"anything"))
    store.keep_peer_rows(forged.peer_id, msgspec.json.encode(forged).decode(), day=today)
    store.keep_peer_rows("nonsense", "{", day=today)
    shared = SharedRows(Journal(store), store, settings=Settings())
    shared.load()
    assert shared.heard() == ()


async def test_one_set_a_peer_is_kept_and_only_so_many_peers(store: Store) -> None:
    for number in range(KEPT_PEERS + 5):
        store.keep_peer_rows(f"p{number}", "old", day=number)
        store.keep_peer_rows(f"p{number}", "new", day=number)
    kept = store.peer_rows()
    assert len(kept) == KEPT_PEERS and set(kept) == {"new"}
    assert rows_bytes(SignedRows("p", 1, ())).startswith(b"starling-rows-1:")
