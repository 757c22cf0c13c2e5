"""Laws of redemption."""

import msgspec

from core.payments.channel import PaymentChannel
from core.payments.redemption import Reason, Redemption, RedemptionPolicy, decide
from core.payments.voucher import Party

POLICY = RedemptionPolicy(gas_multiple=100, unsecured_cap=500, longest_wait_s=100.0, largest_batch=3)
WORKER = "0x" + "33" * 32


def channel(owed: int, number: int = 1, **changes: object) -> PaymentChannel:
    payer = Party("0x" + "11" * 20, f"0x{number:040x}")
    plain = PaymentChannel(payer, WORKER, owed, "0x" + "ab" * 64, reserved=owed, waiting_since=0.0)
    return msgspec.structs.replace(plain, **changes)


def decided(*channels: PaymentChannel, force: bool = False, now: float = 1.0) -> list[Redemption]:
    return decide(channels, gas_cost=10, policy=POLICY, now=now, force=force)


def test_small_sums_wait() -> None:
    assert decided(channel(999)) == []


def test_a_sum_of_many_times_the_fee_is_cashed() -> None:
    [redemption] = decided(channel(600, 1), channel(400, 2))
    assert (redemption.amount, redemption.reason) == (1000, Reason.WORTH_IT)
    assert [voucher.cumulative for voucher in redemption.vouchers] == [600, 400]


def test_an_exit_is_cashed_at_once_with_all_that_is_worth_its_fee() -> None:
    [redemption] = decided(channel(50, 1, exit_at=9), channel(11, 2), channel(10, 3))
    assert (redemption.reason, redemption.amount) == (Reason.EXIT_STARTED, 61)


def test_unsecured_credit_over_the_cap_is_cashed() -> None:
    [redemption] = decided(channel(501, reserved=0, free=501))
    assert redemption.reason is Reason.OVER_CAP
    assert decided(channel(500, reserved=0, free=500)) == []


def test_what_waited_a_week_is_cashed() -> None:
    assert decided(channel(50), now=99.0) == []
    assert decided(channel(50), now=100.0)[0].reason is Reason.WEEKLY


def test_what_the_payer_cannot_pay_is_not_worth_a_fee() -> None:
    broke = channel(5000, reserved=0, free=0)
    assert decided(broke) == decided(broke, force=True) == []


def test_force_cashes_everything_that_can_be_paid() -> None:
    [redemption] = decided(channel(3, 1), channel(9, 2, reserved=4), force=True)
    assert (redemption.amount, redemption.reason) == (7, Reason.ASKED)


def test_nothing_owed_is_nothing_to_do() -> None:
    assert decided(channel(0), channel(9, 2, redeemed=9), PaymentChannel(channel(0).payer, WORKER), force=True) == []


def test_batches_stay_within_their_size_and_lose_nothing() -> None:
    redemptions = decided(*(channel(100 * n, n) for n in range(1, 8)), force=True)
    assert [len(redemption.vouchers) for redemption in redemptions] == [3, 3, 1]
    assert sum(redemption.amount for redemption in redemptions) == 2800


def test_workers_are_never_mixed_in_a_batch() -> None:
    other = channel(5000, 2, worker="0x" + "44" * 32)
    assert {redemption.worker for redemption in decided(channel(5000), other)} == {WORKER, other.worker}
