"""Laws of telling the time by peers, and of noticing sleep."""

from __future__ import annotations

from core.job import PeerId
from p2p.clock_skew import MAX_SAMPLES, ClockSkew, clock_sentence
from p2p.wakefulness import Moment, jumped


def skew_of(*skews: float, is_trusted: bool = False) -> ClockSkew:
    skew = ClockSkew()
    for number, value in enumerate(skews):
        skew.note(PeerId(f"p{number}"), value, group=f"20.{number}.1.0/24", is_trusted=is_trusted)
    return skew


def test_two_strangers_do_not_set_the_clock_and_three_do() -> None:
    assert skew_of(300, 300).correction_s() == 0
    assert skew_of(299, 300, 301).correction_s() == 300
    assert skew_of(300, is_trusted=True).correction_s() == 300


def test_less_than_a_minute_is_nobodys_business() -> None:
    assert skew_of(50, 59, 60).correction_s() == 0


def test_few_liars_do_not_move_the_median() -> None:
    assert skew_of(1e6, 1e6, 0, 1, 2).correction_s() == 0
    skew = skew_of(*(0.1 * number for number in range(5)))
    for number in range(200):
        skew.note(PeerId(f"evil{number}"), 9_000, group="66.6.6.0/24", is_trusted=False)
    assert skew.correction_s() == 0
    skew.note(PeerId("odd"), float("nan"), group="", is_trusted=True)
    skew.note(PeerId("odd"), float("inf"), group="", is_trusted=True)
    assert skew.correction_s() == 0


def test_samples_are_bounded_and_the_newest_count() -> None:
    skew = skew_of(*([300.0] * MAX_SAMPLES))
    for number in range(MAX_SAMPLES):
        skew.note(PeerId(f"new{number}"), 0.0, group=f"30.{number}.1.0/24", is_trusted=False)
    assert skew.correction_s() == 0


def test_the_owner_is_told_how_far_and_which_way() -> None:
    assert clock_sentence(0.0) == ""
    assert "about 5 minutes behind its peers" in clock_sentence(300)
    assert "about 1 minute ahead of its peers" in clock_sentence(-61)
    assert "about 24 hours behind" in clock_sentence(86_400)


def test_sleep_and_a_clock_that_is_set_are_noticed_and_a_busy_moment_is_not() -> None:
    before = Moment(1_000.0, 50.0)
    assert jumped(before, Moment(4_600.0, 55.0), expected_s=5)
    assert jumped(before, Moment(1_060.0, 110.0), expected_s=5)
    assert jumped(before, Moment(700.0, 55.0), expected_s=5)
    assert not jumped(before, Moment(1_012.0, 62.0), expected_s=5)
