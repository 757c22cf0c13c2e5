"""The laws of the price: never below cost, never a jump, no fractions of money."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.job import Price
from core.pricing import CEILING_FACTOR, Costs, energy_per_mtok, lowest_price, next_price

COSTS = Costs(floor_per_mtok=500_000, tariff_per_kwh=250_000, power_w=300.0, tokens_per_s=100.0)
ANY_COSTS = st.builds(
    Costs, floor_per_mtok=st.integers(0, 10**9), tariff_per_kwh=st.integers(0, 10**9),
    power_w=st.floats(0, 2000), tokens_per_s=st.floats(0, 10_000),
)
USE = st.floats(0, 2)


def priced(output: int) -> Price:
    return Price(-(-output // 4), output)


def test_the_first_price_is_the_lowest() -> None:
    assert next_price(None, COSTS, utilisation=1.0) == lowest_price(COSTS) == Price(500_000, 2_000_000)


def test_power_for_a_million_tokens_is_counted_exactly() -> None:
    assert energy_per_mtok(COSTS) == 208_334


def test_an_unknown_speed_costs_only_the_floor() -> None:
    assert lowest_price(Costs(1000, 250_000, 300.0, 0.0)) == Price(1000, 4000)


def test_dear_power_raises_the_lowest_price() -> None:
    slow = Costs(floor_per_mtok=1000, tariff_per_kwh=250_000, power_w=300.0, tokens_per_s=1.0)
    assert lowest_price(slow).output_per_mtok > 1.4 * energy_per_mtok(slow)


def test_a_full_machine_asks_an_eighth_more_and_an_empty_one_an_eighth_less() -> None:
    assert next_price(priced(8_000_000), COSTS, utilisation=1.0).output_per_mtok == 9_000_000
    assert next_price(priced(8_000_000), COSTS, utilisation=0.0).output_per_mtok == 7_000_000
    assert next_price(priced(8_000_000), COSTS, utilisation=0.6).output_per_mtok == 8_000_000


@given(costs=ANY_COSTS, use=USE, start=st.integers(1, 10**10))
def test_no_step_is_larger_than_an_eighth_within_the_bounds(costs: Costs, use: float, start: int) -> None:
    lowest = lowest_price(costs).output_per_mtok
    current = max(lowest, min(start, lowest * CEILING_FACTOR))
    moved = next_price(priced(current), costs, utilisation=use).output_per_mtok
    assert lowest <= moved <= lowest * CEILING_FACTOR or lowest == 0
    assert abs(moved - current) <= max(1, -(-current // 8))


@given(costs=ANY_COSTS, start=st.integers(1, 10**10), a=USE, b=USE)
def test_more_use_never_lowers_the_price(costs: Costs, start: int, a: float, b: float) -> None:
    prices = [next_price(priced(start), costs, utilisation=use).output_per_mtok for use in sorted((a, b))]
    assert prices[0] <= prices[1]
