"""Which plans are worth a trial of half a minute while nobody wants anything of this machine.

Pure. Never runs one: core.explorer does.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from core.metamodel.choice import Ranked, Verdict, rewards_per_hour
from core.metamodel.goal import Goal
from core.plan import Estimate, Plan
from core.speed_record import SpeedCell

MAX_TRIALS = 4
WORTH = 1.05


def worth_trying(
    ranked: Sequence[Ranked], incumbent: Plan, *, goal: Goal, known: Sequence[SpeedCell] = ()
) -> tuple[Plan, ...]:
    """At most four plans whose upper bound beats what the incumbent is expected to earn by 5 %, the most promising
    first; one of those that differ only in what no speed depends on. What was measured already is known."""
    measured = {speed_question(cell.run.plan) for cell in known if cell.decodes}
    rows = [row for row in ranked if row.verdict is Verdict.GOOD and row.plan.runtime == "llama.cpp"]
    ours = next((row for row in ranked if row.plan == incumbent), None)
    if ours is None:
        return ()
    expected = rewards_per_hour([(ours.plan, _likely(ours))], goal=goal)[0]
    best = rewards_per_hour([(row.plan, _at_best(row)) for row in rows], goal=goal)
    found: dict[tuple[object, ...], Plan] = {}
    for reward, row in sorted(zip(best, rows, strict=True), key=lambda pair: -pair[0]):
        question = speed_question(row.plan)
        if reward > 0 and reward >= WORTH * expected and question not in measured:
            found.setdefault(question, row.plan)
    found.pop(speed_question(incumbent), None)
    return tuple(found.values())[:MAX_TRIALS]


def speed_question(plan: Plan) -> tuple[object, ...]:
    """What of a plan a benchmark's speed depends on; slots and chunks are its own."""
    return (
        plan.model, plan.device_id, plan.more_devices, plan.runtime, plan.quantization, plan.kv_type, plan.gpu_layers,
        plan.threads, plan.flash_attention,
    )  # fmt: skip


def _likely(row: Ranked) -> Estimate:
    return msgspec.structs.replace(row.estimate, decode_low_tokens_per_s=row.estimate.decode_tokens_per_s)


def _at_best(row: Ranked) -> Estimate:
    return msgspec.structs.replace(row.estimate, decode_low_tokens_per_s=row.estimate.decode_high_tokens_per_s)
