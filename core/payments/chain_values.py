"""What the chain tells us and how it can fail, as plain values, so that no other module sees a web3 type.

Pure: never asks anyone.
"""

from __future__ import annotations

import msgspec


class ChainError(Exception):
    """What can go wrong between us and the chain; the message is one sentence."""


class ChainUnavailable(ChainError):
    """No answer, or no sensible one, within the deadline. Nothing is known to have happened: ask again later."""


class WrongChain(ChainError):
    """The node is on another chain than the network we joined."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"The node is on chain {found}, and this network is on chain {expected}.")
        self.expected = expected
        self.found = found


class WrongContract(ChainError):
    """What lies at the escrow's address isn't the escrow that we know, or isn't for this token."""


class TransactionRefused(ChainError):
    """A transaction was not sent, or can never be mined: it would revert, cost too much, or lost its nonce."""


class Account(msgspec.Struct, frozen=True):
    """One party's account in the escrow; amounts in smallest units, nonce of its next relay fee."""

    free: int
    earned: int
    nonce: int


class Lane(msgspec.Struct, frozen=True):
    """One payer's lane to one worker; exit_at in seconds since the epoch, None when no exit was started."""

    reserved: int
    redeemed: int
    exit_at: int | None


class Receipt(msgspec.Struct, frozen=True):
    """What became of a mined transaction. confirmations is 1 in the newest block; fee_wei is what its sender paid.

    paid is the sum that its redemptions brought to workers, redeemed each payer's new cumulative total (by party id),
    and paid_out what left the escrow for owners.
    """

    transaction: str
    block: int
    block_hash: str
    confirmations: int
    is_success: bool
    gas_used: int
    fee_wei: int
    paid: int = 0
    redeemed: dict[str, int] = {}
    paid_out: int = 0


class RedeemedEvent(msgspec.Struct, frozen=True):
    """Someone redeemed for a worker: what was paid, and the lane's new cumulative total.

    block_hash tells a reorganisation apart from a new event.
    """

    transaction: str
    block: int
    block_hash: str
    payer: str
    worker: str
    paid: int
    total: int


class ExitStartedEvent(msgspec.Struct, frozen=True):
    """A payer wants a lane's collateral back at exit_at (seconds since the epoch)."""

    block: int
    payer: str
    worker: str
    exit_at: int
