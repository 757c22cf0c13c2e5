"""Laws of new priors at home: trained in a child, kept only if they win, void with another shipped one."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from app import prior_keeper
from app.prior_keeper import MIN_PEERS, PriorKeeper
from core.device import DeviceKind
from core.job import PeerId
from core.metamodel.federation import Heard, SharedRow

SHIPPED = Path(__file__).parents[2] / "assets" / "metamodel" / "prior.json"
ROW = SharedRow(
    "cuda", DeviceKind.GPU, 8.0, 410.0, 42.0, "llama.cpp", "Q4_K_M", "F16", 7.2e9, 32.0, 4100.0, 2000.0, 4.4e9, 1.0,
    510.0, 1.0, 610.0, 520.0, 1200.0, 60.0,
)  # fmt: skip


def heard(count: int) -> tuple[Heard, ...]:
    return tuple(Heard(PeerId(f"p{number}"), ROW) for number in range(count))


@pytest.mark.e2e
async def test_a_prior_that_does_not_win_leaves_the_shipped_one(tmp_path: Path) -> None:
    keeper = PriorKeeper(SHIPPED, tmp_path / "priors", heard=lambda: ())
    assert not await keeper.refit(heard(2))
    assert keeper.best == SHIPPED and list((tmp_path / "priors").iterdir()) == []


async def test_a_winner_is_used_until_another_prior_is_shipped(tmp_path: Path) -> None:
    shipped = tmp_path / "shipped.json"
    shipped.write_bytes(b"one")
    keeper = PriorKeeper(shipped, tmp_path, heard=lambda: ())
    keeper._own.write_bytes(SHIPPED.read_bytes())
    assert keeper.best == keeper._own
    shipped.write_bytes(b"two")
    assert PriorKeeper(shipped, tmp_path, heard=lambda: ()).best == shipped


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", SHIPPED.read_bytes()[:-9]], ids=range(5))
async def test_a_damaged_prior_of_our_own_is_not_used(tmp_path: Path, content: bytes) -> None:
    keeper = PriorKeeper(SHIPPED, tmp_path, heard=lambda: ())
    keeper._own.write_bytes(content)
    assert keeper.best == SHIPPED


async def test_with_few_peers_nothing_is_trained_and_with_no_more_nothing_again(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    rows = [heard(MIN_PEERS - 1), heard(MIN_PEERS), heard(MIN_PEERS), heard(MIN_PEERS + 1)]

    async def train(self: PriorKeeper, heard: tuple[Heard, ...]) -> bool:
        counts.append(len(heard))
        return True

    monkeypatch.setattr(prior_keeper.PriorKeeper, "refit", train)
    taken: list[Path] = []
    keeper = PriorKeeper(SHIPPED, tmp_path, heard=lambda: rows.pop(0) if rows else ())
    with trio.move_on_after(6 * 86_400):
        await keeper.run(taken.append)
    assert counts == [MIN_PEERS, MIN_PEERS + 1] and len(taken) == 2
