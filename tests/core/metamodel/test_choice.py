"""The laws of choosing: limits first, then reward, and a reason that can be read."""

from __future__ import annotations

import msgspec

from core.job import QualityClass
from core.metamodel.choice import NoPlan, choose, reward_per_hour
from core.metamodel.goal import Goal, JobMix, Limits
from core.plan import Choice, Estimate, Plan

GOAL = Goal()


def plan(quantization: str, *, slots: int = 4) -> Plan:
    return Plan("demo", "llama.cpp", quantization, slots=slots, slot_context_tokens=2048)


def estimate(speed: float, *, kl: float = 0.01, fits: bool = True) -> Estimate:
    return Estimate(
        prefill_tokens_per_s=2000.0, decode_tokens_per_s=speed, decode_low_tokens_per_s=0.7 * speed,
        decode_high_tokens_per_s=1.3 * speed, step_slope=0.1, memory_bytes=1 << 30, fits=fits, kl_divergence=kl,
    )


def test_the_faster_plan_earns_more_and_is_chosen() -> None:
    chosen = choose([(plan("Q8_0"), estimate(40.0)), (plan("Q4_K_M"), estimate(70.0))], goal=GOAL)
    assert isinstance(chosen, Choice)
    assert chosen.plan.quantization == "Q4_K_M"
    assert chosen.runner_up is not None
    assert chosen.runner_up.quantization == "Q8_0"


def test_speed_never_buys_quality_that_was_promised() -> None:
    goal = msgspec.structs.replace(GOAL, quality=QualityClass.PREMIUM)
    rows = [(plan("Q8_0"), estimate(40.0, kl=0.0014)), (plan("Q4_K_M"), estimate(70.0, kl=0.0313))]
    chosen = choose(rows, goal=goal)
    assert isinstance(chosen, Choice)
    assert chosen.plan.quantization == "Q8_0"


def test_what_does_not_fit_is_never_chosen() -> None:
    assert isinstance(choose([(plan("Q8_0"), estimate(40.0, fits=False))], goal=GOAL), NoPlan)


def test_nothing_good_enough_says_why() -> None:
    found = choose([(plan("Q2_K"), estimate(40.0, kl=0.4))], goal=GOAL)
    assert isinstance(found, NoPlan)
    assert "quality" in found.reason


def test_the_reason_is_one_sentence_with_the_runner_up() -> None:
    chosen = choose([(plan("Q8_0"), estimate(40.0)), (plan("Q4_K_M"), estimate(70.0))], goal=GOAL)
    assert isinstance(chosen, Choice)
    assert chosen.reason == (
        "Q4_K_M with 4 slots earns most here: about 70 tok/s for one job, at least 49, within the standard quality "
        "budget; next best is Q8_0 at about 40 tok/s, expected to earn 36 % less."
    )


def test_a_doubtful_plan_is_worth_less() -> None:
    sure, doubtful = estimate(40.0), msgspec.structs.replace(estimate(40.0), probability_ok=0.9)
    assert reward_per_hour(plan("Q8_0"), doubtful, goal=GOAL) < reward_per_hour(plan("Q8_0"), sure, goal=GOAL)


def test_power_is_paid_from_the_reward() -> None:
    costly = msgspec.structs.replace(GOAL, power_w=400.0)
    assert reward_per_hour(plan("Q8_0"), estimate(40.0), goal=GOAL) - reward_per_hour(
        plan("Q8_0"), estimate(40.0), goal=costly
    ) == 0.4 * GOAL.tariff_per_kwh


def test_a_plan_too_slow_for_its_jobs_yields_to_one_that_is_not() -> None:
    goal = msgspec.structs.replace(GOAL, limits=Limits(tpot_s=0.3), mix=JobMix(concurrent=8.0))
    rows = [(plan("Q8_0", slots=8), estimate(5.0)), (plan("Q8_0", slots=1), estimate(5.0))]
    chosen = choose(rows, goal=goal)
    assert isinstance(chosen, Choice)
    assert chosen.plan.slots == 1


def test_what_earns_the_same_within_two_percent_is_decided_by_quality() -> None:
    chosen = choose([(plan("Q5_K_M"), estimate(70.0)), (plan("Q4_K_M"), estimate(70.5, kl=0.0313))], goal=GOAL)
    assert isinstance(chosen, Choice)
    assert chosen.plan.quantization == "Q5_K_M"
    assert "about the same" in chosen.reason
