"""When to cash vouchers, and which: rule 4 of the payment design, per worker and per batch.

Pure. Decides, never sends: core/payments/chain.py does. All amounts are smallest units of the payment token.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from core.payments.channel import PaymentChannel
from core.payments.voucher import Voucher

DAY_S = 86_400


class Reason(StrEnum):
    """Why a channel is cashed now, the most urgent first."""

    EXIT_STARTED = "the payer has asked for the collateral back"
    ASKED = "the owner asked"
    OVER_CAP = "too much is owed without collateral"
    WORTH_IT = "the amount is many times the network fee"
    WEEKLY = "a week has passed since the last time"


class RedemptionPolicy(msgspec.Struct, frozen=True):
    """Thresholds. An amount is worth a redemption from gas_multiple x the fee; a batch is one transaction."""

    gas_multiple: int = 100
    unsecured_cap: int = 100_000
    longest_wait_s: float = 7 * DAY_S
    largest_batch: int = 100


class Redemption(msgspec.Struct, frozen=True):
    """One transaction to send: the vouchers to cash for `worker` (a party id), what they should bring, and why now."""

    worker: str
    vouchers: tuple[Voucher, ...]
    amount: int
    reason: Reason


def decide(
    channels: Iterable[PaymentChannel],
    *,
    gas_cost: int,
    policy: RedemptionPolicy,
    now: float,
    force: bool = False,
) -> list[Redemption]:
    """The redemptions to send now, the most urgent first; empty is the usual answer.

    gas_cost is the fee of cashing one channel, in the token's smallest unit. A channel that can't pay its own fee never
    goes, except by force. Once a worker has one reason to cash, all its other channels ride along in the batch.
    """
    by_worker: dict[str, list[PaymentChannel]] = {}
    for channel in channels:
        if payable(channel) > (0 if force else gas_cost):
            by_worker.setdefault(channel.worker, []).append(channel)
    found: list[Redemption] = []
    for held in by_worker.values():
        reason = Reason.ASKED if force else _reason(held, policy, gas_cost=gas_cost, now=now)
        if reason is not None:
            found += _batches(held, policy.largest_batch, reason=reason)
    urgency = list(Reason)
    return sorted(found, key=lambda redemption: urgency.index(redemption.reason))


def payable(channel: PaymentChannel) -> int:
    """What cashing this channel would bring now, before fees."""
    return min(channel.unredeemed, channel.reserved + channel.free) if channel.signature else 0


def _reason(
    held: list[PaymentChannel], policy: RedemptionPolicy, *, gas_cost: int, now: float
) -> Reason | None:
    if any(channel.exit_at is not None for channel in held):
        return Reason.EXIT_STARTED
    if any(channel.unsecured > policy.unsecured_cap for channel in held):
        return Reason.OVER_CAP
    if sum(payable(channel) for channel in held) >= policy.gas_multiple * gas_cost:
        return Reason.WORTH_IT
    waiting = [channel.waiting_since for channel in held if channel.waiting_since is not None]
    if waiting and now - min(waiting) >= policy.longest_wait_s:
        return Reason.WEEKLY
    return None


def _batches(held: list[PaymentChannel], size: int, *, reason: Reason) -> list[Redemption]:
    ordered = sorted(held, key=payable, reverse=True)
    return [_redemption(ordered[start : start + size], reason) for start in range(0, len(ordered), size)]


def _redemption(batch: list[PaymentChannel], reason: Reason) -> Redemption:
    vouchers = tuple(Voucher(c.payer, c.worker, c.cumulative, c.signature) for c in batch)
    return Redemption(batch[0].worker, vouchers, sum(payable(channel) for channel in batch), reason)
