"""How far a job may run on what its payer signed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.job import Price, Usage, charge
from core.payments.credit import allowance, lane_credit, paid_tokens

PRICES = st.builds(Price, st.integers(0, 10**7), st.integers(1, 10**7), st.integers(0, 5_000))


@given(PRICES, st.integers(0, 10_000), st.integers(0, 10**9))
def test_paid_tokens_never_cost_more_than_what_was_paid(price: Price, prompt: int, paid: int) -> None:
    tokens = paid_tokens(price, prompt, paid=paid)
    if tokens:
        assert charge(price, Usage(prompt, tokens)) <= paid


@given(PRICES, st.integers(0, 10_000), st.integers(0, 10_000))
def test_paying_the_charge_pays_for_the_tokens(price: Price, prompt: int, tokens: int) -> None:
    assert paid_tokens(price, prompt, paid=charge(price, Usage(prompt, tokens))) >= tokens


def test_the_worker_runs_one_window_ahead() -> None:
    assert allowance(Price(1_000_000, 2_000_000), 10, paid=10, window_tokens=64) == 64
    assert allowance(Price(1_000_000, 2_000_000), 10, paid=30, window_tokens=64) == 74


def test_lane_credit_is_what_is_signed_and_not_used() -> None:
    assert lane_credit(100, 60, held=10) == 30
    assert lane_credit(100, 120, held=0) == 0


def test_charge_rounds_up_once_over_the_whole_job() -> None:
    assert charge(Price(1, 1), Usage(1, 1)) == 1
    assert charge(Price(0, 2_000_000), Usage(7, 10)) == 20
    assert charge(Price(0, 2_000_000, 1_000), Usage(7, 10)) == 22
