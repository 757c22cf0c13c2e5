"""One payer's channel to one worker: what is signed, what is cashed, what stands behind it, and whether to trust more.

Pure. Never asks the chain: whoever reads it hands the amounts in. All amounts are smallest units of the payment token.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from core.payments.voucher import MAX_AMOUNT, EscrowDomain, Party, Voucher, recover_signer


class Fault(StrEnum):
    """Why a voucher is no good."""

    WRONG_PAYER = "The voucher is from another payer."
    WRONG_WORKER = "The voucher is for another worker."
    OUT_OF_BOUNDS = "The voucher's amount or ids are out of bounds."
    LOWER_CUMULATIVE = "The voucher is for less than an earlier one."
    BAD_SIGNATURE = "The voucher is not signed by the payer's hot key."
    OVER_CREDIT = "The voucher is for more than the payer's collateral and credit cover."


class VoucherRejected(msgspec.Struct, frozen=True):
    """The voucher changes nothing; fault says why, in words for the payer."""

    fault: str


class PaymentChannel(msgspec.Struct, frozen=True):
    """payer -> worker (a party id). redeemed, reserved, free and exit_at are the chain's, as last confirmed.

    cumulative and signature are the highest voucher's; signature is empty before the first one. exit_at (seconds since
    the epoch) says that the payer has asked for the collateral back; waiting_since is when the oldest voucher that
    isn't cashed came in.
    """

    payer: Party
    worker: str
    cumulative: int = 0
    signature: str = ""
    redeemed: int = 0
    reserved: int = 0
    free: int = 0
    exit_at: int | None = None
    waiting_since: float | None = None

    @property
    def unredeemed(self) -> int:
        """Signed and not cashed."""
        return max(0, self.cumulative - self.redeemed)

    @property
    def collateral(self) -> int:
        """What only this worker can take: nothing as soon as an exit has started."""
        return self.reserved if self.exit_at is None else 0

    @property
    def secured(self) -> int:
        """The part of unredeemed that collateral stands behind."""
        return min(self.unredeemed, self.collateral)

    @property
    def unsecured(self) -> int:
        """The part of unredeemed that is credit: the payer's free balance may be gone when it is cashed."""
        return self.unredeemed - self.secured


def accept(
    channel: PaymentChannel, voucher: Voucher, *, domain: EscrowDomain, credit_cap: int, now: float
) -> PaymentChannel | VoucherRejected:
    """The channel with this voucher in it, or why not. The same voucher, or the same amount again, adds nothing.

    credit_cap is how much beyond collateral the worker lends this payer; from exit_at on it lends nothing.
    """
    if fault := voucher_fault(channel, voucher, domain=domain):
        return VoucherRejected(fault)
    if voucher.cumulative < channel.cumulative:
        return VoucherRejected(Fault.LOWER_CUMULATIVE)
    if voucher.cumulative == channel.cumulative:
        return channel
    owed = voucher.cumulative - channel.redeemed
    if owed > _trusted(channel, credit_cap, now=now):
        return VoucherRejected(Fault.OVER_CREDIT)
    since = channel.waiting_since if channel.unredeemed else now
    return msgspec.structs.replace(
        channel, cumulative=voucher.cumulative, signature=voucher.signature, waiting_since=since
    )


def voucher_fault(channel: PaymentChannel, voucher: Voucher, *, domain: EscrowDomain) -> Fault | None:
    """Why this voucher is not one of this channel, whatever its amount, or None."""
    if not 0 <= voucher.cumulative <= MAX_AMOUNT:
        return Fault.OUT_OF_BOUNDS
    if voucher.worker != channel.worker:
        return Fault.WRONG_WORKER
    if not _is_same(voucher.payer, channel.payer):
        return Fault.WRONG_PAYER
    if voucher.signature == channel.signature and voucher.cumulative == channel.cumulative:
        return None
    return _signature_fault(voucher, domain)


def _trusted(channel: PaymentChannel, credit_cap: int, *, now: float) -> int:
    is_over = channel.exit_at is not None and now >= channel.exit_at
    return 0 if is_over else channel.collateral + credit_cap


def _is_same(one: Party, other: Party) -> bool:
    return (one.owner.lower(), one.hot.lower()) == (other.owner.lower(), other.hot.lower())


def _signature_fault(voucher: Voucher, domain: EscrowDomain) -> Fault | None:
    try:
        signer = recover_signer(domain, voucher)
    except ValueError:
        return Fault.BAD_SIGNATURE
    return None if signer == voucher.payer.hot.lower() else Fault.BAD_SIGNATURE
