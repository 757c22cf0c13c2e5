"""From vouchers to money: what a chain that refuses, hangs or knows better than we do can and cannot break."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from core import events as e
from core.job import JobId
from core.journal import Journal
from core.payments import ledger
from core.payments import settlement as room
from core.payments.chain_values import Account, Lane, Receipt, TransactionRefused
from core.payments.redemption import RedemptionPolicy
from core.payments.settlement import MAX_LANES, Purse, Settlement, SettlementError
from core.payments.voucher import Party
from core.state import earnings
from core.store import Store, StoreFull

WORKER = Party("0x" + "22" * 20, "0x" + "33" * 20)
PAYER = Party("0x" + "11" * 20, "0x" + "44" * 20)


class FakeChain:
    """An escrow that says what it is told to say."""

    def __init__(self) -> None:
        self.redeemed = 0
        self.reserved = 10**6
        self.asked = 0
        self.before_recording: Callable[[], object] = lambda: None
        self.sent: list[str] = []
        self.ended = threading.Event()

    def lane(self, payer_id: str, worker_id: str) -> Lane:
        self.asked += 1
        return Lane(self.reserved, self.redeemed, None)

    def account(self, party: Party) -> Account:
        return Account(0, 500, 0)

    def token_balance(self, address: str) -> int:
        return 0

    def block_number(self) -> int:
        return 1

    def redeem(self, key: bytes, worker: Party, *, vouchers: Any, record: Callable[[str, bytes], None]) -> str:
        self.before_recording()
        name = f"t{len(self.sent)}"
        try:
            record(name, b"raw")
            self.sent.append(name)
        finally:
            self.ended.set()
        return name

    def pay_out(self, key: bytes, worker: Party, *, record: Callable[[str, bytes], None]) -> str:
        return self.redeem(key, worker, vouchers=(), record=record)

    def receipt(self, transaction: str) -> Receipt:
        return Receipt(transaction, 1, "0x", 1, False, 1, 1)


def refuse() -> None:
    raise TransactionRefused("0x33 needs 1 wei for the network fee and has less.")


def no_space(*_: object, **__: object) -> None:
    raise StoreFull("No space is left.")


def made(folder: Path, chain: FakeChain) -> tuple[Journal, Settlement]:
    store = Store(folder / "s.db")
    journal = Journal(store)
    wallet: Any = SimpleNamespace(hot_key=bytes(32))
    purse = Purse(wallet, WORKER, confirmations=1, gas_cost=1, policy=RedemptionPolicy())
    return journal, Settlement(journal, store, chain=chain, purse=purse)  # type: ignore[arg-type]


def voucher(cumulative: int, added: int, redeemed: int = 0) -> e.VoucherAccepted:
    return e.VoucherAccepted(
        at=1.0,
        job_id=JobId("j1"),
        payer=PAYER.id,
        payer_owner=PAYER.owner,
        payer_hot=PAYER.hot,
        cumulative=cumulative,
        signature="0x",
        added=added,
        redeemed=redeemed,
    )


async def test_a_refused_transaction_is_trouble_and_not_the_end(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.before_recording = refuse
    journal, settlement = made(tmp_path, chain)
    await journal.record(voucher(1_000, 1_000))
    with journal.watch() as watcher:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(settlement.run)
            with trio.fail_after(5):
                while not isinstance((await watcher.events.receive()).event, e.TroubleFound):
                    continue
            nursery.cancel_scope.cancel()
    assert "network fee" in journal.state.trouble["chain"]
    assert journal.state.account is not None
    with pytest.raises(SettlementError):
        await settlement.withdraw()


async def test_a_transaction_that_comes_after_its_deadline_is_never_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SEND_TIMEOUT_S", 0.05, raising=False)
    monkeypatch.setattr(room, "CHAIN_TIMEOUT_S", 0.05)
    chain, late = FakeChain(), threading.Event()
    chain.before_recording = lambda: late.wait(5)
    journal, settlement = made(tmp_path, chain)
    await journal.record(voucher(1_000, 1_000))
    with pytest.raises(SettlementError):
        await settlement._submit_redemptions(force=True)
    late.set()
    assert await trio.to_thread.run_sync(chain.ended.wait, 5)
    assert chain.sent == []
    assert journal.state.ledger.transactions == ()


async def test_a_payout_that_the_chain_reverts_is_not_called_paid(tmp_path: Path) -> None:
    journal, settlement = made(tmp_path, FakeChain())
    with pytest.raises(SettlementError):
        await settlement.withdraw()


async def test_a_redemption_that_reverts_is_not_paid_for_again_at_every_round(tmp_path: Path) -> None:
    chain = FakeChain()
    journal, settlement = made(tmp_path, chain)
    await journal.record(voucher(1_000, 1_000))
    for _ in range(5):
        await settlement._round()
    assert chain.sent == ["t0"]
    assert journal.state.ledger.lanes[PAYER.id].unredeemed == 1_000
    assert await settlement.redeem_now()
    assert chain.sent == ["t0", "t1"]


async def test_a_revert_counts_only_when_it_is_as_deep_as_a_payment_would_have_to_be(tmp_path: Path) -> None:
    journal, settlement = made(tmp_path, FakeChain())
    settlement._purse = msgspec.structs.replace(settlement._purse, confirmations=3)
    await journal.record(voucher(1_000, 1_000), e.RedemptionSubmitted(2.0, "t", 1_000, {PAYER.id: 1_000}))
    await settlement._follow()
    assert len(ledger.pending(journal.state.ledger)) == 1


async def test_a_transaction_whose_bytes_are_lost_is_given_up_and_the_engine_lives(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.receipt = lambda transaction: None  # type: ignore[assignment, method-assign, return-value]
    journal, settlement = made(tmp_path, chain)
    await journal.record(voucher(1_000, 1_000), e.RedemptionSubmitted(2.0, "t", 1_000, {PAYER.id: 1_000}))
    await settlement._follow()
    assert ledger.pending(journal.state.ledger) == ()
    assert journal.state.ledger.lanes[PAYER.id].unredeemed == 1_000


async def test_a_full_disk_is_trouble_and_not_the_end(tmp_path: Path) -> None:
    journal, settlement = made(tmp_path, FakeChain())
    await journal.record(voucher(1_000, 1_000))
    settlement._store.keep_transaction = no_space  # type: ignore[method-assign]
    with journal.watch() as watcher:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(settlement.run)
            with trio.fail_after(5):
                while not isinstance((await watcher.events.receive()).event, e.TroubleFound):
                    continue
            nursery.cancel_scope.cancel()
    assert "No space" in journal.state.trouble["chain"]


async def test_vouchers_that_nobody_covers_are_not_called_cashed(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.reserved = 0
    journal, settlement = made(tmp_path, chain)
    await journal.record(voucher(1_000, 1_000))
    assert "kept" in await settlement.redeem_now()


async def test_a_crowd_of_payers_is_not_remembered(tmp_path: Path) -> None:
    journal, settlement = made(tmp_path, FakeChain())
    for number in range(MAX_LANES + 50):
        assert await settlement.channel(Party(f"0x{number:040x}", PAYER.hot)) is not None
    assert len(settlement._lanes) <= MAX_LANES


async def test_a_chain_that_hangs_leaves_threads_to_the_disk(tmp_path: Path) -> None:
    chain, answer = FakeChain(), threading.Event()
    journal, settlement = made(tmp_path, chain)
    chain.lane = lambda payer_id, worker_id: answer.wait(5) and None  # type: ignore[assignment, method-assign, return-value]
    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(settlement.channel, Party(f"0x{number:040x}", PAYER.hot))
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(2):
            await journal.record(voucher(1_000, 1_000))
        answer.set()
        nursery.cancel_scope.cancel()


async def test_what_the_chain_has_cashed_already_is_never_counted_again(tmp_path: Path) -> None:
    chain = FakeChain()
    chain.redeemed = 900
    journal, settlement = made(tmp_path, chain)
    await journal.record(voucher(500, 500))
    channel = await settlement.channel(PAYER)
    assert channel is not None and channel.cumulative == 900
    await journal.record(voucher(1_000, 100, redeemed=900))
    lane = journal.state.ledger.lanes[PAYER.id]
    assert lane.cumulative - lane.billed == 600
    assert earnings(journal.state).earned == 100


async def test_the_first_fact_of_a_lane_starts_from_what_was_cashed_before(tmp_path: Path) -> None:
    journal, _ = made(tmp_path, FakeChain())
    await journal.record(voucher(1_000, 100, redeemed=900))
    lane = journal.state.ledger.lanes[PAYER.id]
    assert lane.cumulative - lane.billed == earnings(journal.state).earned == 100


async def test_two_redemptions_on_their_way_do_not_forget_each_other(tmp_path: Path) -> None:
    journal, _ = made(tmp_path, FakeChain())
    await journal.record(voucher(1_000, 1_000), e.RedemptionSubmitted(2.0, "t1", 1_000, {PAYER.id: 1_000}))
    await journal.record(voucher(1_500, 500), e.RedemptionSubmitted(3.0, "t2", 500, {PAYER.id: 1_500}))
    await journal.record(e.RedemptionConfirmed(4.0, "t1", 1_000, 7, {PAYER.id: 1_000}))
    assert journal.state.ledger.lanes[PAYER.id].unredeemed == 0
    await journal.record(e.TransactionFailed(5.0, "t2", "The chain reverted it."))
    assert journal.state.ledger.lanes[PAYER.id].unredeemed == 500
