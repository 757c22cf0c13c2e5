"""Which of the predicted plans to serve, and why, in one sentence.

Pure. Never predicts: estimates come in, a Choice goes out.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from core.metamodel.goal import Goal, JobMix, kl_budget
from core.plan import Choice, Estimate, Plan

NEARLY = 0.02
_PROMPT_PRICE_SHARE = 0.25
_MISSES = "; it will miss the response times that fast jobs ask for."


class NoPlan(msgspec.Struct, frozen=True):
    """Nothing can be served here, and why."""

    reason: str


def choose(estimates: Sequence[tuple[Plan, Estimate]], *, goal: Goal) -> Choice | NoPlan:
    """The plan with the highest expected reward per hour that keeps the quality, memory, TTFT and TPOT limits.

    Expected reward per hour = price x lower-bound speed for this mix x P(no failure) - watts x tariff. Among plans
    within 2 % of the highest, which is less than we can tell apart, the one that loses least quality.
    """
    fitting = [(p, e) for p, e in estimates if e.fits]
    if not fitting:
        return NoPlan("No quantization of this model fits the free memory. Close other programs or pick a smaller one.")
    good = [(p, e) for p, e in fitting if e.kl_divergence <= kl_budget(goal.quality)]
    if not good:
        return NoPlan(f"What fits the free memory would lose more quality than {goal.quality.value} jobs accept.")
    prompt_enough = [(p, e) for p, e in good if is_prompt(p, e, goal=goal)]
    ranked = sorted((_paid(p, e, goal=goal) for p, e in prompt_enough or good), key=_reward, reverse=True)
    nearly = [r for r in ranked if _reward(r) >= _reward(ranked[0]) - NEARLY * abs(_reward(ranked[0]))]
    best = min(nearly, key=lambda r: (r[1].kl_divergence, -_reward(r), r[0].slots))
    runner_up = _runner_up(best, ranked)
    return Choice(
        plan=best[0],
        estimate=best[1],
        reason=_reason(best, runner_up, goal=goal) + ("." if prompt_enough else _MISSES),
        runner_up=runner_up[0] if runner_up is not None else None,
        candidates=len(estimates),
    )


def reward_per_hour(plan: Plan, estimate: Estimate, *, goal: Goal) -> float:
    """Smallest units per hour of a full machine, net of power. A prompt token is paid a quarter of an answer's."""
    mix = goal.mix
    paid_tokens = _PROMPT_PRICE_SHARE * mix.prompt_tokens + mix.output_tokens
    income = 3600 / machine_s(plan, estimate, mix=mix) * paid_tokens * goal.price_per_mtok / 1e6
    return income * estimate.probability_ok - goal.power_w / 1000 * goal.tariff_per_kwh


def machine_s(plan: Plan, estimate: Estimate, *, mix: JobMix) -> float:
    """Machine seconds of one typical job: its prompt, and its share of the steps at the lower bound (scheduling.md).

    The prompt counts at its estimate: that bound is as wide for every candidate and would decide nothing.
    """
    busy = max(1.0, min(float(plan.slots), mix.concurrent))
    caution = estimate.decode_low_tokens_per_s / max(estimate.decode_tokens_per_s, 1e-9)
    prefill_s = mix.prompt_tokens / max(estimate.prefill_tokens_per_s, 1e-9)
    return prefill_s + mix.output_tokens * step_s(estimate, busy) / caution / busy


def step_s(estimate: Estimate, batch: float) -> float:
    """Seconds of one decode step at this batch: t0 (1 + alpha b), through the estimate's speed at batch 1."""
    alone_s = 1 / max(estimate.decode_tokens_per_s, 1e-9)
    return alone_s * (1 + estimate.step_slope * batch) / (1 + estimate.step_slope)


def is_prompt(plan: Plan, estimate: Estimate, *, goal: Goal) -> bool:
    """True when the first token and each further one come in time with all slots busy."""
    busy_step_s = step_s(estimate, plan.slots)
    chunks = -(-goal.mix.prompt_tokens // plan.prefill_chunk)
    ttft_s = goal.mix.prompt_tokens / max(estimate.prefill_tokens_per_s, 1e-9) + (chunks + 1) * busy_step_s
    stall_s = plan.prefill_chunk / max(estimate.prefill_tokens_per_s, 1e-9)
    return busy_step_s + stall_s <= goal.limits.tpot_s and ttft_s <= goal.limits.ttft_s


def _paid(plan: Plan, estimate: Estimate, *, goal: Goal) -> tuple[Plan, Estimate]:
    return plan, msgspec.structs.replace(estimate, reward_per_hour=reward_per_hour(plan, estimate, goal=goal))


def _reward(entry: tuple[Plan, Estimate]) -> float:
    return entry[1].reward_per_hour


def _runner_up(best: tuple[Plan, Estimate], ranked: Sequence[tuple[Plan, Estimate]]) -> tuple[Plan, Estimate] | None:
    """The best plan that differs in what an owner would notice (quantization or device), else simply the next."""
    rest = [r for r in ranked if r is not best]
    first = best[0]
    other = [r for r in rest if (r[0].quantization, r[0].device_id) != (first.quantization, first.device_id)]
    return next(iter(other or rest), None)


def _reason(best: tuple[Plan, Estimate], other: tuple[Plan, Estimate] | None, *, goal: Goal) -> str:
    plan, estimate = best
    is_close = other is not None and _reward(other) > _reward(best)
    why = "loses least quality of those that earn most here" if is_close else "earns most here"
    start = (
        f"{plan.quantization} with {_slots(plan)} {why}: about {estimate.decode_tokens_per_s:.0f} tok/s for"
        f" one job, at least {estimate.decode_low_tokens_per_s:.0f}, within the {goal.quality.value} quality budget"
    )
    return start if other is None else f"{start}; next best is {_against(best, other)}"


def _against(best: tuple[Plan, Estimate], other: tuple[Plan, Estimate]) -> str:
    name = other[0].quantization
    if name == best[0].quantization:
        name = f"{name} with {_slots(other[0])}"
    speed = f"{name} at about {other[1].decode_tokens_per_s:.0f} tok/s"
    if _reward(best) <= 0:
        return speed
    less = round(100 * (1 - _reward(other) / _reward(best)))
    return f"{speed}, expected to earn {less} % less" if less > 0 else f"{speed}, expected to earn about the same"


def _slots(plan: Plan) -> str:
    return "1 slot" if plan.slots == 1 else f"{plan.slots} slots"
