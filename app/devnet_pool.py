"""Transactions that wait for an earlier one of the same sender. Pure but for what it holds; gone when the process ends.

Never mines and never checks balances: the chain does when a transaction's turn comes.
"""

from __future__ import annotations

from typing import Any

from app.devnet_evm import Refused

MAX_WAITING = 64  # of one sender; the next one is refused, and its sender sends it again later
MAX_SENDERS = 256


class Pool:
    """Waiting transactions by sender and nonce."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, dict[int, Any]] = {}

    def add(self, transaction: Any, next_nonce: int) -> None:
        """Take it in. Raises Refused in the words that Ethereum nodes use."""
        waiting = self._waiting.get(transaction.sender, {})
        earlier = waiting.get(transaction.nonce)
        if transaction.nonce < next_nonce:
            raise Refused(f"nonce too low: next nonce {next_nonce}, tx nonce {transaction.nonce}")
        if earlier is not None and earlier.hash == transaction.hash:
            raise Refused("already known")
        if earlier is not None and _fee(transaction) * 10 < _fee(earlier) * 11:
            raise Refused("replacement transaction underpriced")
        if len(waiting) >= MAX_WAITING or (not waiting and len(self._waiting) >= MAX_SENDERS):
            raise Refused("txpool is full")
        self._waiting.setdefault(transaction.sender, {})[transaction.nonce] = transaction

    def take(self, sender: bytes, next_nonce: int) -> Any | None:
        """Remove and return the transaction whose turn it is."""
        waiting = self._waiting.get(sender, {})
        transaction = waiting.pop(next_nonce, None)
        if not waiting:
            self._waiting.pop(sender, None)
        return transaction

    def next_nonce(self, sender: bytes, mined: int) -> int:
        """The first nonce that is neither mined nor waiting."""
        waiting = self._waiting.get(sender, {})
        while mined in waiting:
            mined += 1
        return mined

    def find(self, transaction_hash: bytes) -> Any | None:
        """The waiting transaction with this hash."""
        everything = (waiting.values() for waiting in self._waiting.values())
        return next((t for waiting in everything for t in waiting if t.hash == transaction_hash), None)


def _fee(transaction: Any) -> int:
    return int(getattr(transaction, "max_fee_per_gas", None) or transaction.gas_price)
