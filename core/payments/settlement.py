"""Turns vouchers into money at the owner's address: when to cash is decided elsewhere, here it is done and followed up.

A transaction is written down before it is broadcast, and followed until the chain has it K blocks deep; a start after a
crash goes on where the last engine stopped. Never shows an amount that the chain does not hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec
import trio

from core import events as e
from core.journal import Journal
from core.payments import ledger
from core.payments.chain import EscrowChain, Record
from core.payments.chain_values import ChainError, Receipt, TransactionRefused
from core.payments.channel import PaymentChannel
from core.payments.redemption import Redemption, RedemptionPolicy, decide
from core.payments.voucher import Party
from core.payments.wallet import Wallet
from core.store import Store, StoreError

EVERY_S = 2.0
CHAIN_TIMEOUT_S = 8.0
SEND_TIMEOUT_S = 30.0
LANE_FRESH_S = 5.0
MAX_LANES = 256
CHAIN_THREADS = 8
REDEEM_TIMEOUT_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 6 * 3_600.0
MOST_DOUBLED = 16
LOST = "Its bytes are lost; what it was for is asked of the chain anew."

Answer = TypeVar("Answer")


class SettlementError(Exception):
    """Money could not be moved now; the message says why, and that nothing is lost."""


class Purse(msgspec.Struct, frozen=True):
    """Who we are on the chain: the wallet's hot key signs, the party is paid; gas_cost is one
    lane's fee in the token's smallest unit."""

    wallet: Wallet
    worker: Party
    confirmations: int
    gas_cost: int
    policy: RedemptionPolicy


class Settlement:
    """Owns the way from vouchers to payout. All chain work is done in threads, with deadlines."""

    def __init__(self, journal: Journal, store: Store, *, chain: EscrowChain, purse: Purse) -> None:
        self._journal = journal
        self._store = store
        self._chain = chain
        self._purse = purse
        self._lanes: dict[str, tuple[float, PaymentChannel]] = {}
        self._lock = trio.Lock()
        self._reverts = 0
        self._again_at = 0.0
        # A chain that hangs may take all of these threads, and none of those that write to disk.
        self._threads = trio.CapacityLimiter(CHAIN_THREADS)

    async def run(self) -> None:
        """Cash what is worth it and follow transactions, until cancelled. A chain that is down is waited for."""
        is_down = False
        while True:
            try:
                async with self._lock:
                    await self._round()
                if is_down:
                    self._journal.announce(e.TroubleFound(time.time(), "chain", ""))
                is_down = False
            except (SettlementError, StoreError) as error:
                if not is_down:
                    self._journal.announce(e.TroubleFound(time.time(), "chain", str(error)))
                is_down = True
            await trio.sleep(EVERY_S)

    async def channel(self, payer: Party) -> PaymentChannel | None:
        """A payer's channel to us with what the chain says now; None when the chain can't be asked."""
        known = self._lanes.get(payer.id)
        if known is None or time.time() - known[0] > LANE_FRESH_S:
            return await self.fresh_channel(payer)
        return self._with_voucher(known[1])

    async def fresh_channel(self, payer: Party) -> PaymentChannel | None:
        """The same, asked of the chain this moment."""
        try:
            read = await self._ask(self._read_lane, payer)
        except SettlementError:
            return None
        now = time.time()
        fresh = [(key, known) for key, known in self._lanes.items() if now - known[0] <= LANE_FRESH_S]
        self._lanes = {**dict(fresh[1 - MAX_LANES :]), payer.id: (now, read)}
        return self._with_voucher(read)

    def _with_voucher(self, channel: PaymentChannel) -> PaymentChannel:
        lane = self._journal.state.ledger.lanes.get(channel.payer.id)
        if lane is None or lane.cumulative < channel.redeemed:
            return channel
        return msgspec.structs.replace(channel, cumulative=lane.cumulative, signature=lane.signature)

    async def redeem_now(self) -> str:
        """Cash every voucher, whatever its size, and wait until the chain has paid."""
        async with self._lock:
            await self._submit_redemptions(force=True)
            await self._until_settled()
            await self._read_account()
        left = sum(lane.unredeemed for lane in self._journal.state.ledger.lanes.values())
        if left:
            return "What the payers' escrow covers now is cashed. The other vouchers are kept and tried again."
        return "Every voucher is cashed."

    async def withdraw(self) -> str:
        """Pay what the escrow holds for us out to the owner's address."""
        async with self._lock:
            await self._follow()
            amount = (await self._ask(self._chain.account, self._purse.worker)).earned
            if amount == 0:
                return "There is nothing to withdraw yet."
            before = self._journal.state.ledger.paid
            await self._pay_out(amount)
            await self._until_settled()
            await self._read_account()
            if self._journal.state.ledger.paid == before:
                raise SettlementError("The chain did not take the payout. Nothing is lost; try again later.")
        return f"Paid out to {self._purse.worker.owner}."

    async def _round(self) -> None:
        await self._follow()
        await self._read_account()
        if time.time() >= self._again_at:
            await self._submit_redemptions(force=False)

    async def _submit_redemptions(self, *, force: bool) -> None:
        channels = await self._channels()
        now = time.time()
        policy, gas_cost = self._purse.policy, self._purse.gas_cost
        for redemption in decide(channels, gas_cost=gas_cost, policy=policy, now=now, force=force):
            await self._submit(redemption)

    async def _channels(self) -> list[PaymentChannel]:
        found = []
        for lane in self._journal.state.ledger.lanes.values():
            if lane.unredeemed > 0:
                read = await self._ask(self._read_lane, Party(lane.owner, lane.hot))
                found.append(
                    msgspec.structs.replace(
                        read,
                        cumulative=lane.cumulative,
                        signature=lane.signature,
                        redeemed=max(read.redeemed, lane.settling),
                        waiting_since=lane.waiting_since,
                    )
                )
        return found

    async def _submit(self, redemption: Redemption) -> None:
        claims = {voucher.payer.id: voucher.cumulative for voucher in redemption.vouchers}
        key, worker = self._purse.wallet.hot_key, self._purse.worker
        await self._send(
            lambda keep: self._chain.redeem(key, worker, vouchers=redemption.vouchers, record=keep),
            lambda transaction: e.RedemptionSubmitted(time.time(), transaction, redemption.amount, claims),
        )

    async def _pay_out(self, amount: int) -> None:
        key, worker = self._purse.wallet.hot_key, self._purse.worker
        await self._send(
            lambda keep: self._chain.pay_out(key, worker, record=keep),
            lambda transaction: e.PayoutSubmitted(time.time(), transaction, amount),
        )

    async def _send(self, send: Callable[[Record], str], fact_of: Callable[[str], e.Fact]) -> None:
        """Have a transaction sent. Before its broadcast the signed bytes are written down, then the fact that they are
        on their way; a thread that comes so far after its deadline stops there, and nothing was sent."""
        is_given_up = False

        async def write_down(fact: e.Fact) -> None:
            if is_given_up:
                raise SettlementError("The chain took too long, and the transaction was not sent.")
            await self._journal.record(fact)

        def keep(transaction: str, raw: bytes) -> None:
            fact = fact_of(transaction)
            self._store.keep_transaction(transaction, raw.hex(), purpose=type(fact).__name__, at=fact.at)
            trio.from_thread.run(write_down, fact)

        try:
            await self._ask(send, keep, within_s=SEND_TIMEOUT_S)
        except TransactionRefused as error:
            raise SettlementError(f"{error} Nothing is lost; trying again.") from error
        finally:
            is_given_up = True

    async def _follow(self) -> None:
        for entry in ledger.pending(self._journal.state.ledger):
            receipt = await self._ask(self._chain.receipt, entry.transaction)
            if receipt is None:
                await self._send_again(entry)
            elif receipt.confirmations >= self._purse.confirmations:
                await self._confirm(entry, receipt)

    async def _send_again(self, entry: ledger.Transaction) -> None:
        """Not mined: send the bytes that were written down once more. Another with its nonce was mined: it failed."""
        raw = await trio.to_thread.run_sync(self._store.transaction, entry.transaction)
        if not raw:
            await self._journal.record(e.TransactionFailed(time.time(), entry.transaction, LOST))
            return
        try:
            await self._ask(self._chain.broadcast, bytes.fromhex(raw))
        except TransactionRefused as error:
            await self._journal.record(e.TransactionFailed(time.time(), entry.transaction, str(error)))

    async def _confirm(self, entry: ledger.Transaction, receipt: Receipt) -> None:
        now = time.time()
        self._note(is_success=receipt.is_success, now=now)
        if not receipt.is_success:
            fact: e.Fact = e.TransactionFailed(now, entry.transaction, "The chain reverted it.")
        elif entry.kind is ledger.TransactionKind.PAYOUT:
            fact = e.PayoutConfirmed(now, entry.transaction, receipt.paid_out, receipt.block)
        else:
            fact = e.RedemptionConfirmed(now, entry.transaction, receipt.paid, receipt.block, receipt.redeemed)
        await self._journal.record(fact)

    def _note(self, *, is_success: bool, now: float) -> None:
        """Whatever made the chain revert, the next try costs another fee: each waits twice as long as the last one."""
        self._reverts = 0 if is_success else min(MOST_DOUBLED, self._reverts + 1)
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._reverts - 1)) if self._reverts else 0.0
        self._again_at = now + pause_s

    async def _until_settled(self) -> None:
        with trio.move_on_after(REDEEM_TIMEOUT_S):
            while ledger.pending(self._journal.state.ledger):
                await self._follow()
                await trio.sleep(0.1)
            return
        raise SettlementError("The chain has not confirmed yet. Nothing is lost; it is followed up in the background.")

    async def _read_account(self) -> None:
        account = await self._ask(self._chain.account, self._purse.worker)
        balance = await self._ask(self._chain.token_balance, self._purse.worker.owner)
        block = await self._ask(self._chain.block_number)
        self._journal.announce(e.AccountRead(time.time(), account.earned, balance, block))

    def _read_lane(self, payer: Party) -> PaymentChannel:
        worker = self._purse.worker.id
        lane = self._chain.lane(payer.id, worker)
        account = self._chain.account(payer)
        return PaymentChannel(
            payer,
            worker,
            cumulative=lane.redeemed,
            redeemed=lane.redeemed,
            reserved=lane.reserved,
            free=account.free,
            exit_at=lane.exit_at,
        )

    async def _ask(
        self, question: Callable[..., Answer], *arguments: object, within_s: float = CHAIN_TIMEOUT_S
    ) -> Answer:
        """One question to the chain, in a thread, with a deadline."""
        asked = partial(question, *arguments)
        try:
            with trio.fail_after(within_s):
                return await trio.to_thread.run_sync(asked, abandon_on_cancel=True, limiter=self._threads)
        except trio.TooSlowError:
            raise SettlementError("The chain does not answer. Nothing is lost; trying again.") from None
        except TransactionRefused:
            raise
        except ChainError as error:
            raise SettlementError(f"{error} Nothing is lost; trying again.") from error
