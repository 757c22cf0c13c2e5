"""One truth about earnings: what facts say was vouchered, is settling, can be withdrawn, and was paid.

Pure. Never asks the chain: facts carry what the chain said. All amounts are smallest units of the payment token.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from core.events import (
    PayoutConfirmed,
    PayoutSubmitted,
    RedemptionConfirmed,
    RedemptionSubmitted,
    TransactionFailed,
    VoucherAccepted,
)

MAX_TRANSACTIONS = 200


class TransactionKind(StrEnum):
    """What a transaction of ours is for."""

    REDEMPTION = "redemption"
    PAYOUT = "payout"


class TransactionState(StrEnum):
    """A transaction is submitted, then confirmed or failed."""

    SUBMITTED = "submitted"
    CONFIRMED = "confirmed"
    FAILED = "failed"


class Transaction(msgspec.Struct, frozen=True):
    """One line of the owner's transaction list."""

    transaction: str
    kind: TransactionKind
    state: TransactionState
    amount: int
    at: float
    jobs: int = 0
    claims: dict[str, int] = {}
    reason: str = ""


class Lane(msgspec.Struct, frozen=True):
    """What one payer has signed for us: the highest cumulative and its signature, how much of it is cashed, and what
    its ended jobs cost."""

    owner: str
    hot: str
    cumulative: int
    signature: str
    redeemed: int = 0
    settling: int = 0
    billed: int = 0
    is_secured: bool = True
    waiting_since: float | None = None

    @property
    def unredeemed(self) -> int:
        """Signed, and neither cashed nor on the way to it."""
        return self.cumulative - max(self.redeemed, self.settling)


class Ledger(msgspec.Struct, frozen=True):
    """Lanes by payer's party id, our transactions (the newest first), and what the escrow holds and has paid out."""

    lanes: dict[str, Lane] = {}
    transactions: tuple[Transaction, ...] = ()
    withdrawable: int = 0
    paid: int = 0


class Earnings(msgspec.Struct, frozen=True):
    """The five states of payments.md."""

    accruing: int
    earned: int
    settling: int
    withdrawable: int
    paid: int
    unsecured: int = 0

    @property
    def total(self) -> int:
        """Everything, from served to paid."""
        return self.accruing + self.earned + self.settling + self.withdrawable + self.paid


def earnings(ledger: Ledger, accruing: int) -> Earnings:
    """The five states; accruing is what live jobs have served beyond their vouchers."""
    lanes = ledger.lanes.values()
    return Earnings(
        accruing=accruing,
        earned=sum(lane.unredeemed for lane in lanes),
        settling=sum(max(0, lane.settling - lane.redeemed) for lane in lanes),
        withdrawable=ledger.withdrawable,
        paid=ledger.paid,
        unsecured=sum(lane.unredeemed for lane in lanes if not lane.is_secured),
    )


def add_voucher(ledger: Ledger, fact: VoucherAccepted) -> Ledger:
    """A higher cumulative replaces the lane's; an equal or lower one changes nothing. What the chain had cashed beyond
    all that these facts know (a lost disk's vouchers) was used up then, too."""
    known = ledger.lanes.get(fact.payer, Lane(fact.payer_owner, fact.payer_hot, 0, ""))
    if fact.cumulative <= known.cumulative:
        return ledger
    unknown = max(0, fact.redeemed - known.cumulative)
    lane = msgspec.structs.replace(
        known,
        cumulative=fact.cumulative,
        signature=fact.signature,
        redeemed=fact.redeemed if unknown else known.redeemed,
        billed=known.billed + unknown,
        is_secured=fact.is_secured,
        waiting_since=known.waiting_since if known.unredeemed else fact.at,
    )
    return msgspec.structs.replace(ledger, lanes={**ledger.lanes, fact.payer: lane})


def bill(ledger: Ledger, payer: str, *, amount: int) -> Ledger:
    """An ended job of this payer cost this much."""
    lane = ledger.lanes.get(payer)
    if lane is None:
        return ledger
    billed = msgspec.structs.replace(lane, billed=lane.billed + amount)
    return msgspec.structs.replace(ledger, lanes={**ledger.lanes, payer: billed})


def submit_redemption(ledger: Ledger, fact: RedemptionSubmitted) -> Ledger:
    """The claimed amounts are on their way."""
    lanes = dict(ledger.lanes)
    for payer, cumulative in fact.claims.items():
        if payer in lanes:
            lanes[payer] = msgspec.structs.replace(lanes[payer], settling=cumulative)
    entry = Transaction(
        transaction=fact.transaction,
        kind=TransactionKind.REDEMPTION,
        state=TransactionState.SUBMITTED,
        amount=fact.amount,
        at=fact.at,
        claims=fact.claims,
    )
    return _with_entry(msgspec.structs.replace(ledger, lanes=lanes), entry)


def confirm_redemption(ledger: Ledger, fact: RedemptionConfirmed) -> Ledger:
    """The chain's own totals become ours; twice is once."""
    entry = _entry(ledger, fact.transaction)
    if entry is None or entry.state is not TransactionState.SUBMITTED:
        return ledger
    lanes = dict(ledger.lanes)
    for payer in entry.claims:
        if payer in lanes:
            redeemed = max(lanes[payer].redeemed, fact.redeemed.get(payer, 0))
            settling = _claimed_elsewhere(ledger, payer, besides=fact.transaction)
            lanes[payer] = msgspec.structs.replace(lanes[payer], redeemed=redeemed, settling=settling)
    settled = msgspec.structs.replace(entry, state=TransactionState.CONFIRMED, amount=fact.paid)
    ledger = msgspec.structs.replace(ledger, lanes=lanes, withdrawable=ledger.withdrawable + fact.paid)
    return _with_entry(ledger, settled)


def fail_transaction(ledger: Ledger, fact: TransactionFailed) -> Ledger:
    """What was on its way is where it was before."""
    entry = _entry(ledger, fact.transaction)
    if entry is None or entry.state is not TransactionState.SUBMITTED:
        return ledger
    lanes = dict(ledger.lanes)
    for payer in entry.claims:
        if payer in lanes:
            settling = _claimed_elsewhere(ledger, payer, besides=fact.transaction)
            lanes[payer] = msgspec.structs.replace(lanes[payer], settling=settling)
    failed = msgspec.structs.replace(entry, state=TransactionState.FAILED, reason=fact.reason)
    return _with_entry(msgspec.structs.replace(ledger, lanes=lanes), failed)


def submit_payout(ledger: Ledger, fact: PayoutSubmitted) -> Ledger:
    """A payout is on its way; the money counts as withdrawable until the chain has moved it."""
    entry = Transaction(
        transaction=fact.transaction,
        kind=TransactionKind.PAYOUT,
        state=TransactionState.SUBMITTED,
        amount=fact.amount,
        at=fact.at,
    )
    return _with_entry(ledger, entry)


def confirm_payout(ledger: Ledger, fact: PayoutConfirmed) -> Ledger:
    """The money is at the owner's address; twice is once."""
    entry = _entry(ledger, fact.transaction)
    if entry is None or entry.state is not TransactionState.SUBMITTED:
        return ledger
    done = msgspec.structs.replace(entry, state=TransactionState.CONFIRMED, amount=fact.amount)
    moved = msgspec.structs.replace(
        ledger, withdrawable=ledger.withdrawable - fact.amount, paid=ledger.paid + fact.amount
    )
    return _with_entry(moved, done)


def pending(ledger: Ledger) -> tuple[Transaction, ...]:
    """Transactions that the chain has not answered yet, the oldest first."""
    return tuple(t for t in reversed(ledger.transactions) if t.state is TransactionState.SUBMITTED)


def _claimed_elsewhere(ledger: Ledger, payer: str, *, besides: str) -> int:
    """The highest cumulative of this payer that another transaction has on its way."""
    others = (entry for entry in pending(ledger) if entry.transaction != besides)
    return max((entry.claims.get(payer, 0) for entry in others), default=0)


def _entry(ledger: Ledger, transaction: str) -> Transaction | None:
    return next((t for t in ledger.transactions if t.transaction == transaction), None)


def _with_entry(ledger: Ledger, entry: Transaction) -> Ledger:
    others = tuple(t for t in ledger.transactions if t.transaction != entry.transaction)
    ordered = sorted((entry, *others), key=lambda t: t.at, reverse=True)[:MAX_TRANSACTIONS]
    return msgspec.structs.replace(ledger, transactions=tuple(ordered))
