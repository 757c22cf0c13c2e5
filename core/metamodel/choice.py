"""Which of the predicted plans to serve, and why, in one sentence.

Pure. Never predicts: estimates come in, a Choice goes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from core.metamodel.goal import Goal, JobMix, kl_budget
from core.metamodel.service import REFERENCE_CHUNK, Speeds, Timetables, job_seconds, speeds_of, workload_of
from core.metamodel.timetable import Switches
from core.plan import Choice, Estimate, NoPlan, Plan, plan_words

NEARLY = 0.02
_PROMPT_PRICE_SHARE = 0.25
_MISSES = "; it will miss the response times that fast jobs ask for."


class Verdict(StrEnum):
    """Whether a plan may be chosen, and else the first limit that it breaks."""

    GOOD = ""
    SLOW = "slower than jobs ask"
    POWER = "draws too much power"
    QUALITY = "loses too much quality"
    MEMORY = "does not fit"


class Ranked(msgspec.Struct, frozen=True):
    """A plan with its estimate, what it earns included, and whether it keeps the limits. income_per_hour is before the
    power that it costs."""

    plan: Plan
    estimate: Estimate
    verdict: Verdict = Verdict.GOOD
    income_per_hour: float = 0.0


def rank(
    estimates: Sequence[tuple[Plan, Estimate]], *, goal: Goal, timetables: Timetables | None = None
) -> tuple[Ranked, ...]:
    """Every plan, those that keep all limits first, and among equals what earns most. timetables: kept from call to
    call, they need not be made again."""
    rewards = rewards_per_hour(estimates, goal=goal, timetables=timetables)
    rows = [
        Ranked(
            p,
            msgspec.structs.replace(e, reward_per_hour=reward),
            verdict(p, e, goal=goal),
            reward + power_per_hour(e, goal=goal),
        )
        for (p, e), reward in zip(estimates, rewards, strict=True)
    ]
    order = {name: place for place, name in enumerate(Verdict)}
    return tuple(sorted(rows, key=lambda r: (order[r.verdict], -_reward(r))))


def choose(
    estimates: Sequence[tuple[Plan, Estimate]], *, goal: Goal, timetables: Timetables | None = None
) -> Choice | NoPlan:
    """The plan with the highest expected reward per hour that keeps the quality, power, memory, TTFT and TPOT limits.

    Expected reward per hour = price x lower-bound speed for this mix x P(no failure) - watts x tariff. Among plans
    within 2 % of the highest income, which is less than we can tell apart, the one that loses least quality. Response
    times are wishes: where no plan keeps them, the best of the others is chosen and its reason says so.
    """
    return pick(rank(estimates, goal=goal, timetables=timetables), goal=goal)


def pick(ranked: Sequence[Ranked], *, goal: Goal) -> Choice | NoPlan:
    """The choice among ranked plans, or what keeps all of them out."""
    able = [r for r in ranked if r.verdict in (Verdict.GOOD, Verdict.SLOW)]
    if not able:
        return NoPlan(_nothing(ranked, goal))
    first = [r for r in able if r.verdict is able[0].verdict]
    best = best_of(first)
    runner_up = _runner_up(best, first)
    return Choice(
        plan=best.plan,
        estimate=best.estimate,
        reason=_reason(best, runner_up, goal=goal) + ("." if best.verdict is Verdict.GOOD else _MISSES),
        runner_up=runner_up.plan if runner_up is not None else None,
        candidates=len(ranked),
    )


def best_of(ranked: Sequence[Ranked]) -> Ranked:
    """Of rows in the order of what they earn, the one to take: among those within 2 % of the first one's income, what
    loses least quality, then what is usual, then what takes fewer slots."""
    least = _reward(ranked[0]) - NEARLY * max(ranked[0].income_per_hour, abs(_reward(ranked[0])))
    nearly = [row for row in ranked if row.verdict is ranked[0].verdict and _reward(row) >= least]
    return min(nearly, key=lambda r: (r.estimate.kl_divergence, _oddity(r.plan), r.plan.slots, -_reward(r)))


def verdict(plan: Plan, estimate: Estimate, *, goal: Goal) -> Verdict:
    """The first limit that this plan breaks, the hardest first."""
    if not estimate.fits:
        return Verdict.MEMORY
    if estimate.kl_divergence > kl_budget(goal.quality):
        return Verdict.QUALITY
    if goal.limits.power_w is not None and estimate.power_w > goal.limits.power_w:
        return Verdict.POWER
    return Verdict.GOOD if is_prompt(plan, estimate, goal=goal) else Verdict.SLOW


def rewards_per_hour(
    estimates: Sequence[tuple[Plan, Estimate]], *, goal: Goal, timetables: Timetables | None = None
) -> list[float]:
    """Smallest units per hour of a full machine, net of power. A prompt token is paid a quarter of an answer's."""
    asked = [(_switches(p), _speeds(p, e, mix=goal.mix)) for p, e in estimates]
    found = job_seconds(asked, workload_of(goal.mix), timetables=timetables)
    job = (_PROMPT_PRICE_SHARE * goal.mix.prompt_tokens + goal.mix.output_tokens) * goal.price_per_mtok / 1e6
    return [
        3600 / max(job_s, 1e-12) * job * e.probability_ok - power_per_hour(e, goal=goal)
        for (_, e), job_s in zip(estimates, found, strict=True)
    ]


def power_per_hour(estimate: Estimate, *, goal: Goal) -> float:
    """Smallest units per hour for what serving draws."""
    return (estimate.power_w or goal.power_w) / 1000 * goal.tariff_per_kwh


def step_s(estimate: Estimate, batch: float) -> float:
    """Seconds of one decode step at this batch: t0 (1 + alpha b), through the estimate's speed at batch 1."""
    alone_s = 1 / max(estimate.decode_tokens_per_s, 1e-9)
    return alone_s * (1 + estimate.step_slope * batch) / (1 + estimate.step_slope)


def is_prompt(plan: Plan, estimate: Estimate, *, goal: Goal) -> bool:
    """True when the first token and each further one come in time with all slots busy."""
    busy_step_s = step_s(estimate, plan.slots)
    known = min(goal.mix.shared_prefix_tokens, goal.mix.prompt_tokens - 1) if plan.prefix_cache else 0
    read = goal.mix.prompt_tokens - known
    chunk = min(plan.prefill_chunk or read, read)
    chunks = -(-read // chunk)
    ttft_s = read / max(estimate.prefill_tokens_per_s, 1e-9) + (chunks + 1) * busy_step_s
    stall_s = chunk / max(estimate.prefill_tokens_per_s, 1e-9) if plan.slots > 1 else 0.0
    return busy_step_s + stall_s <= goal.limits.tpot_s and ttft_s <= goal.limits.ttft_s


def _oddity(plan: Plan) -> int:
    """How far a plan is from the usual way, which is best known and holds up nobody for long."""
    odd = (plan.prefill_chunk == 0, not plan.continuous_batching, plan.unified_kv, not plan.flash_attention)
    return sum(odd) + (plan.draft_tokens > 0) + (plan.runtime != "llama.cpp")


def _switches(plan: Plan) -> Switches:
    return Switches(
        slots=plan.slots,
        chunk_tokens=plan.prefill_chunk,
        prefix_cache=plan.prefix_cache,
        continuous_batching=plan.continuous_batching,
        context_tokens=plan.slot_context_tokens,
    )


def _speeds(plan: Plan, estimate: Estimate, *, mix: JobMix) -> Speeds:
    """What the plan's work costs at the lower bound of writing. The prompt counts at its estimate: that bound is as
    wide for every candidate and would decide nothing. While it is read, one look at the KV serves a whole chunk."""
    plain = speeds_of(
        estimate.prefill_tokens_per_s,
        estimate.decode_low_tokens_per_s,
        step_slope=estimate.step_slope,
        chunk_tokens=min(plan.prefill_chunk or REFERENCE_CHUNK, REFERENCE_CHUNK),
    )
    looks = plan.slots if plan.unified_kv else 1
    drawn, rows = _drawn(plan.draft_tokens, mix.foretold), 1 + plan.draft_tokens
    return msgspec.structs.replace(
        plain,
        pass_s=plain.pass_s / drawn,
        row_s=plain.row_s * rows / drawn,
        drawn_depth_s=estimate.depth_s * looks,
        copy_s=0.0 if plan.unified_kv else estimate.copy_s,
    )


def _drawn(guessed: int, foretold: float) -> float:
    """Tokens that one step brings a sequence which guesses so many: one, and each guess whose elders were all right."""
    return 1 + sum(foretold**n for n in range(1, guessed + 1))


def _nothing(ranked: Sequence[Ranked], goal: Goal) -> str:
    fitting = [r for r in ranked if r.verdict is not Verdict.MEMORY]
    if not fitting:
        return "No quantization of this model fits the free memory. Close other programs or pick a smaller one."
    if all(r.verdict is Verdict.QUALITY for r in fitting):
        return f"What fits the free memory would lose more quality than {goal.quality.value} jobs accept."
    return f"What is good enough would draw more than the {goal.limits.power_w:g} W that you allow."


def _reward(row: Ranked) -> float:
    return row.estimate.reward_per_hour


def _runner_up(best: Ranked, ranked: Sequence[Ranked]) -> Ranked | None:
    """The best plan that differs in what an owner would notice (quantization or device), else simply the next."""
    rest = [r for r in ranked if r is not best]
    first = best.plan
    other = [r for r in rest if (r.plan.quantization, r.plan.device_id) != (first.quantization, first.device_id)]
    return next(iter(other or rest), None)


def _reason(best: Ranked, other: Ranked | None, *, goal: Goal) -> str:
    estimate = best.estimate
    is_close = other is not None and _reward(other) > _reward(best)
    why = "loses least quality of those that earn most here" if is_close else "earns most here"
    if _reward(best) <= 0:
        why = "costs least here, though its power costs more than it earns"
    start = (
        f"{plan_words(best.plan)} {why}: about {estimate.decode_tokens_per_s:.0f} tok/s for"
        f" one job, at least {estimate.decode_low_tokens_per_s:.0f}, within the {goal.quality.value} quality budget"
    )
    return start if other is None else f"{start}; next best is {_against(best, other)}"


def _against(best: Ranked, other: Ranked) -> str:
    name = other.plan.quantization
    if name == best.plan.quantization:
        name = plan_words(other.plan)
    speed = f"{name} at about {other.estimate.decode_tokens_per_s:.0f} tok/s"
    if _reward(best) <= 0:
        return speed
    if _reward(other) <= 0:
        return f"{speed}, whose power would cost more than it earns"
    less = round(100 * (1 - _reward(other) / _reward(best)))
    return f"{speed}, expected to earn {less} % less" if less > 0 else f"{speed}, expected to earn about the same"
