"""The laws of choosing: limits first, then reward, and a reason that can be read."""

from __future__ import annotations

import msgspec
import pytest

from core.job import QualityClass
from core.metamodel.choice import choose, rewards_per_hour
from core.metamodel.goal import Goal, JobMix, Limits
from core.plan import Choice, Estimate, NoPlan, Plan

GOAL = Goal()


def plan(quantization: str, *, slots: int = 4) -> Plan:
    return Plan("demo", "llama.cpp", quantization, slots=slots, slot_context_tokens=2048)


def estimate(speed: float, *, kl: float = 0.01, fits: bool = True) -> Estimate:
    return Estimate(
        prefill_tokens_per_s=2000.0, decode_tokens_per_s=speed, decode_low_tokens_per_s=0.7 * speed,
        decode_high_tokens_per_s=1.3 * speed, step_slope=0.1, memory_bytes=1 << 30, fits=fits, kl_divergence=kl,
    )


def reward(made: Estimate, *, of: Plan | None = None, goal: Goal = GOAL) -> float:
    [found] = rewards_per_hour([(of or plan("Q8_0"), made)], goal=goal)
    return found


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
        "budget; next best is Q8_0 at about 40 tok/s, expected to earn 37 % less."
    )


def test_a_doubtful_plan_is_worth_less() -> None:
    doubtful = msgspec.structs.replace(estimate(40.0), probability_ok=0.9)
    assert reward(doubtful) < reward(estimate(40.0))


def test_power_is_paid_from_the_reward() -> None:
    costly = msgspec.structs.replace(GOAL, power_w=400.0)
    paid = 0.4 * GOAL.tariff_per_kwh
    assert reward(estimate(40.0)) - reward(estimate(40.0), goal=costly) == pytest.approx(paid)
    hungry = msgspec.structs.replace(estimate(40.0), power_w=400.0)
    assert reward(estimate(40.0)) - reward(hungry) == pytest.approx(paid)


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


def test_a_shared_prefix_pays_for_the_cache_that_keeps_it() -> None:
    goal = msgspec.structs.replace(GOAL, mix=JobMix(prompt_tokens=1024, output_tokens=32, shared_prefix_tokens=900))
    cached = msgspec.structs.replace(plan("Q8_0"), prefix_cache=True)
    assert reward(estimate(40.0), of=cached, goal=goal) > 1.2 * reward(estimate(40.0), goal=goal)


def test_batches_that_start_together_earn_less_where_answers_differ() -> None:
    goal = msgspec.structs.replace(GOAL, mix=JobMix(concurrent=8, output_spread=0.5))
    static = msgspec.structs.replace(plan("Q8_0"), continuous_batching=False, prefill_chunk=0)
    assert reward(estimate(40.0), of=static, goal=goal) < reward(estimate(40.0), goal=goal)


def test_guessing_ahead_pays_where_guesses_come_true_and_costs_where_not() -> None:
    guessing = msgspec.structs.replace(plan("Q8_0", slots=1), draft_tokens=4)
    alone, plain = JobMix(concurrent=1), plan("Q8_0", slots=1)
    for foretold, is_better in ((0.8, True), (0.05, False)):
        goal = msgspec.structs.replace(GOAL, mix=msgspec.structs.replace(alone, foretold=foretold))
        guessed, drawn = (reward(estimate(40.0), of=of, goal=goal) for of in (guessing, plain))
        assert (guessed > drawn) is is_better


def test_a_device_that_draws_more_than_is_allowed_is_not_chosen() -> None:
    goal = msgspec.structs.replace(GOAL, limits=Limits(power_w=100.0))
    hungry = msgspec.structs.replace(estimate(90.0), power_w=300.0)
    frugal = msgspec.structs.replace(estimate(40.0), power_w=60.0)
    chosen = choose([(plan("Q4_K_M"), hungry), (plan("Q8_0"), frugal)], goal=goal)
    assert isinstance(chosen, Choice) and chosen.plan.quantization == "Q8_0"
    assert isinstance(choose([(plan("Q4_K_M"), hungry)], goal=goal), NoPlan)


def test_what_costs_more_power_than_it_earns_is_told_so() -> None:
    goal = msgspec.structs.replace(GOAL, power_w=1000.0)
    rows = [(plan("Q8_0"), estimate(4.0)), (plan("Q4_K_M"), estimate(70.0))]
    chosen, lone = choose(rows, goal=goal), choose(rows[:1], goal=goal)
    assert isinstance(chosen, Choice) and isinstance(lone, Choice)
    assert chosen.reason.endswith("next best is Q8_0 at about 4 tok/s, whose power would cost more than it earns.")
    assert "its power costs more than it earns" in lone.reason
