"""Laws of a payment channel."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.payments.channel import Fault, PaymentChannel, VoucherRejected, accept
from core.payments.voucher import EscrowDomain, Party, Voucher, address_of, sign_voucher

KEY = b"\x07" * 32
DOMAIN = EscrowDomain(31337, "0x" + "22" * 20)
PAYER = Party("0x" + "11" * 20, address_of(KEY))
WORKER = Party("0x" + "33" * 20, "0x" + "44" * 20).id
OPEN = PaymentChannel(PAYER, WORKER, reserved=1000)


def voucher(cumulative: int, worker: str = WORKER) -> Voucher:
    return sign_voucher(KEY, DOMAIN, payer=PAYER, worker=worker, cumulative=cumulative)


def offer(channel: PaymentChannel, candidate: Voucher, *, cap: int = 0, now: float = 1.0) -> PaymentChannel:
    taken = accept(channel, candidate, domain=DOMAIN, credit_cap=cap, now=now)
    assert isinstance(taken, PaymentChannel)
    return taken


def refuse(channel: PaymentChannel, candidate: Voucher, *, cap: int = 0, now: float = 1.0) -> str:
    answer = accept(channel, candidate, domain=DOMAIN, credit_cap=cap, now=now)
    assert isinstance(answer, VoucherRejected)
    return answer.fault


def test_a_higher_voucher_adds_the_difference() -> None:
    channel = offer(offer(OPEN, voucher(100)), voucher(250), now=9.0)
    assert (channel.cumulative, channel.unredeemed, channel.secured, channel.waiting_since) == (250, 250, 250, 1.0)


def test_same_voucher_twice_adds_nothing() -> None:
    channel = offer(OPEN, voucher(100))
    assert offer(channel, voucher(100)) == channel


def test_the_same_amount_signed_by_another_key_is_still_refused() -> None:
    channel = offer(OPEN, voucher(100))
    forged = msgspec.structs.replace(voucher(100), signature=voucher(101).signature)
    assert refuse(channel, forged) == Fault.BAD_SIGNATURE


def test_a_lower_voucher_is_refused() -> None:
    assert refuse(offer(OPEN, voucher(100)), voucher(99)) == Fault.LOWER_CUMULATIVE


def test_a_voucher_for_another_worker_or_payer_is_refused() -> None:
    assert refuse(OPEN, voucher(1, worker="0x" + "ee" * 32)) == Fault.WRONG_WORKER
    other = msgspec.structs.replace(voucher(1), payer=Party(PAYER.hot, PAYER.hot))
    assert refuse(OPEN, other) == Fault.WRONG_PAYER


def test_a_changed_amount_is_a_bad_signature() -> None:
    assert refuse(OPEN, msgspec.structs.replace(voucher(100), cumulative=101)) == Fault.BAD_SIGNATURE


@pytest.mark.parametrize("cumulative", [-1, 1 << 96])
def test_amounts_out_of_bounds_are_refused(cumulative: int) -> None:
    assert refuse(OPEN, msgspec.structs.replace(voucher(1), cumulative=cumulative)) == Fault.OUT_OF_BOUNDS


def test_addresses_in_any_case_name_the_same_payer() -> None:
    shouted = Party(PAYER.owner, "0x" + PAYER.hot[2:].upper())
    assert offer(OPEN, msgspec.structs.replace(voucher(5), payer=shouted)).cumulative == 5


def test_nobody_gets_more_than_collateral_and_credit() -> None:
    assert refuse(OPEN, voucher(1001)) == Fault.OVER_CREDIT
    channel = offer(OPEN, voucher(1100), cap=100)
    assert (channel.secured, channel.unsecured) == (1000, 100)
    assert refuse(OPEN, voucher(1101), cap=100) == Fault.OVER_CREDIT


def test_what_is_cashed_makes_room() -> None:
    channel = PaymentChannel(PAYER, WORKER, 500, voucher(500).signature, redeemed=500, reserved=1000)
    assert offer(channel, voucher(1500)).unredeemed == 1000


def test_an_exit_takes_the_collateral_out_of_trust_and_ends_credit_when_it_is_over() -> None:
    leaving = msgspec.structs.replace(OPEN, exit_at=100)
    assert refuse(leaving, voucher(1), now=50.0) == Fault.OVER_CREDIT
    assert offer(leaving, voucher(1), cap=1, now=50.0).unsecured == 1
    assert refuse(leaving, voucher(1), cap=1, now=100.0) == Fault.OVER_CREDIT


@settings(max_examples=40, deadline=None)
@given(amounts=st.lists(st.integers(0, 1500), max_size=6), cap=st.integers(0, 400))
def test_no_run_of_vouchers_lowers_a_channel_or_outgrows_its_trust(amounts: list[int], cap: int) -> None:
    channel = OPEN
    for amount in amounts:
        answer = accept(channel, voucher(amount), domain=DOMAIN, credit_cap=cap, now=1.0)
        after = channel if isinstance(answer, VoucherRejected) else answer
        assert after.cumulative >= channel.cumulative
        channel = after
    assert channel.unredeemed <= OPEN.reserved + cap
    assert channel.secured + channel.unsecured == channel.unredeemed
