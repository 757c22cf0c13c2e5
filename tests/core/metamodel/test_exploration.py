"""Laws of what is worth a trial: what may be better by 5 %, keeps every limit, and is not known already."""

from __future__ import annotations

import msgspec

from core.device import ModelShape
from core.metamodel.choice import Ranked, Verdict
from core.metamodel.exploration import MAX_TRIALS, worth_trying
from core.metamodel.goal import Goal
from core.plan import Estimate, Plan
from core.speed_record import MeasuredRun, Place, SpeedCell

GIB = 1 << 30
PLAN = Plan("m", "llama.cpp", "Q8_0", slots=4, slot_context_tokens=2048, gpu_layers=33, device_id="CUDA0")


def ranked(quantization: str, decode: float, *, high: float = 1.3, verdict: Verdict = Verdict.GOOD) -> Ranked:
    estimate = Estimate(1000.0, decode, 0.8 * decode, high * decode, 0.2, GIB, verdict is not Verdict.MEMORY)
    return Ranked(msgspec.structs.replace(PLAN, quantization=quantization), estimate, verdict)


def names(*rows: Ranked, known: tuple[SpeedCell, ...] = ()) -> list[str]:
    return [plan.quantization for plan in worth_trying(rows, PLAN, goal=Goal(), known=known)]


def test_only_what_may_be_faster_by_5_percent_is_worth_a_trial() -> None:
    ours = ranked("Q8_0", 50.0)
    assert names(ours, ranked("Q6_K", 48.0), ranked("Q4_0", 20.0)) == ["Q6_K"]
    assert names(ours, ranked("Q6_K", 50.0, high=1.03)) == []


def test_what_breaks_a_limit_is_never_tried() -> None:
    ours = ranked("Q8_0", 50.0)
    assert names(ours, ranked("Q4_0", 90.0, verdict=Verdict.QUALITY), ranked("F16", 90.0, verdict=Verdict.MEMORY)) == []


def test_at_most_four_the_most_promising_first() -> None:
    order = ("Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "Q4_0", "F16")
    rows = [ranked(name, 60.0 + place) for place, name in enumerate(order)]
    assert names(ranked("Q8_0", 50.0), *rows) == ["F16", "Q4_0", "Q4_K_M", "Q5_0"]
    assert len(rows) > MAX_TRIALS


def test_what_was_measured_is_not_tried_again() -> None:
    plan, place = ranked("Q6_K", 1.0).plan, Place("x", "", "")
    run = MeasuredRun(1.0, place, plan, ModelShape(1, 1, 1, 1), 1, decode_tokens_per_s=9.0)
    assert names(ranked("Q8_0", 50.0), ranked("Q6_K", 60.0), known=(SpeedCell(run, 0, 1),)) == []


def test_plans_that_differ_only_in_slots_are_one_trial() -> None:
    other = ranked("Q6_K", 60.0)
    more = msgspec.structs.replace(other, plan=msgspec.structs.replace(other.plan, slots=8))
    assert names(ranked("Q8_0", 50.0), other, more) == ["Q6_K"]
