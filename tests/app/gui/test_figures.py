"""Laws of how numbers are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gui.figures import Money, Now, clock_time, duration, moment, ordinal, percent, short_hex

USDC = Money("USDC", 6)


@given(st.integers(0, 10**15))
def test_money_is_never_rounded_up(amount: int) -> None:
    assert round(float(USDC.text(amount).replace(",", "")) * 10**6) <= amount


@pytest.mark.parametrize(
    ("amount", "words"),
    [(0, "0.000"), (24_918_000, "24.918"), (24_918_999, "24.918"), (410, "0.000410"), (45_100, "0.04510")],
)
def test_small_amounts_keep_more_places(amount: int, words: str) -> None:
    assert USDC.text(amount) == words


def test_money_of_a_token_without_decimals_has_none() -> None:
    assert Money("PTS", 0).full(1_200) == "1,200 PTS"


def test_exact_money_keeps_every_digit() -> None:
    assert USDC.exact(-20_000_001) == "-20.000001"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.6, "0.6 s"), (42.4, "42 s"), (720, "12 min"), (15_120, "4 h 12 min"), (3_600, "1 h"), (266_400, "3 d 2 h")],
)
def test_durations_have_two_units_at_most(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_only_all_is_a_hundred_percent() -> None:
    assert percent(9_999, 10_000) == "99.9 %"
    assert percent(5, 5) == "100 %"
    assert percent(1, 0) == "–"


def test_times_are_the_owners_own() -> None:
    now = Now(86_400.0, 7_200)
    assert clock_time(0.0, now) == "02:00"
    assert moment(3_600.0, now) == "Yesterday, 03:00"


def test_ids_are_cut_in_the_middle() -> None:
    assert short_hex("0x7a3f09d1c2b4e5f60718293a4b5c6d7e8f90c41e") == "0x7a3f…c41e"
    assert [ordinal(number) for number in (1, 2, 3, 4, 11, 22)] == ["1st", "2nd", "3rd", "4th", "11th", "22nd"]
