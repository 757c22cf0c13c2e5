"""The wallet as a requester uses it, against quotes that lie and a disk that forgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from app.payer import WalletPayer
from core.job import JobId, Price
from core.network import Network
from core.offer import Quote
from core.payments.chain_values import Account, Lane
from core.payments.signer_book import SignerBook
from core.payments.voucher import Party, Voucher
from core.payments.wallet import Wallet
from core.store import Store

OWNER, HOT = "0x" + "22" * 20, "0x" + "33" * 20


class RichChain:
    """An escrow in which the lane has collateral already."""

    def lane(self, payer_id: str, worker_id: str) -> Lane:
        return Lane(10**9, 0, None)

    def account(self, party: Party) -> Account:
        return Account(0, 0, 0)


def payer(folder: Path, database: str, *, chain_id: int = 31_337) -> WalletPayer:
    wallet = Wallet(bytes(range(1, 33)), OWNER, book=SignerBook(folder / "signer.db"))
    network = Network("n", chain_id, "http://x", "0x" + "44" * 20, "0x" + "55" * 20, "TOK", 6)
    chain: Any = RichChain()
    return WalletPayer(wallet, Store(folder / database), chain=chain, network=network)


def quote(owner: str = OWNER, hot: str = HOT) -> Quote:
    return Quote(JobId("j"), Price(1, 1), 1, 0.1, 0.1, 64, owner, hot, "demo", "F16", 1e9)


async def signed(payer: WalletPayer, amount: int) -> int:
    voucher = await payer.pay(quote(), amount)
    assert isinstance(voucher, Voucher)
    return voucher.cumulative


async def test_a_quote_that_names_nobody_is_not_paid_and_breaks_nothing(tmp_path: Path) -> None:
    assert isinstance(await payer(tmp_path, "a.db").pay(quote(owner="0xnobody"), 10), str)


async def test_a_lost_database_goes_on_from_what_the_wallet_has_signed(tmp_path: Path) -> None:
    assert await signed(payer(tmp_path, "a.db"), 100) == 100
    assert await signed(payer(tmp_path, "b.db"), 20) == 120


async def test_two_payers_of_one_home_sign_for_what_both_owe(tmp_path: Path) -> None:
    one, other = payer(tmp_path, "a.db"), payer(tmp_path, "a.db")
    assert await signed(one, 10) == 10
    assert await signed(other, 490) == 500
    assert await signed(one, 11) == 501


async def test_without_the_signers_book_nothing_is_paid_and_the_reason_is_said(tmp_path: Path) -> None:
    asking = payer(tmp_path, "a.db")
    asking._wallet.close()
    said = await asking.pay(quote(), 10)
    assert isinstance(said, str)
    assert "nothing is signed" in said


async def test_what_was_signed_on_one_chain_is_not_owed_on_another(tmp_path: Path) -> None:
    assert await signed(payer(tmp_path, "a.db"), 100) == 100
    assert await signed(payer(tmp_path, "a.db", chain_id=5), 20) == 20


async def test_credit_is_used_before_more_is_signed(tmp_path: Path) -> None:
    first = payer(tmp_path, "a.db")
    assert await signed(first, 100) == 100
    await first.settle(JobId("j"), 40)
    assert await signed(payer(tmp_path, "a.db"), 60) == 100


async def test_what_a_question_cost_counts_every_peer_that_was_tried(tmp_path: Path) -> None:
    payer_ = payer(tmp_path, "a.db")
    await signed(payer_, 100)
    await payer_.settle(JobId("j"), 40)
    await payer_.pay(msgspec.structs.replace(quote(), job_id=JobId("again")), 30)
    assert payer_.spent == 70
