"""What `starling plan` prints: a table and sentences for people, one object for programs.

Pure: an outlook in, text out.
"""

from __future__ import annotations

import textwrap
from typing import Any

import msgspec

from app.cli_plan_table import Telling, earns_percent, legend, shown_rows, switches, table, where_words
from core.device import DeviceKind, Machine
from core.metamodel.alternatives import GIB, speed_words
from core.metamodel.choice import Ranked, Verdict
from core.metamodel.goal import JobMix
from core.metamodel.outlook import Outlook, Question, best_of_each_kind
from core.plan import Choice, NoPlan, Plan, plan_words

_LESS_THAN_A_PROGRAM = GIB
_MOST_MISSING = "more than 30 GiB"


def outlook_text(look: Outlook, telling: Telling) -> str:
    """The whole answer for people."""
    question = look.question
    head = [textwrap.fill(f"How to serve {question.card.title} on {machine_words(question.machine)}", telling.width)]
    head += [_lines([("Kept", kept_words(look))], width=telling.width)] if question.pinned else []
    changes = [_changes(look, width=telling.width)]
    if isinstance(look.choice, NoPlan):
        reason = textwrap.fill(reason_words(look), telling.width)
        return "\n\n".join([*head, reason, *(changes if look.changes else [])])
    rows = shown_rows(look, is_all=telling.is_all)
    told = [table(look, rows, width=telling.width), legend(look, rows, telling=telling)]
    return "\n\n".join([*head, *told, _chosen(look, look.choice, width=telling.width), *changes])


def outlook_object(look: Outlook, *, is_all: bool) -> dict[str, Any]:
    """The whole answer for programs; units are in the names, those of rewards and prices are the token's smallest."""
    question, choice = look.question, look.choice
    made = choice if isinstance(choice, Choice) else None
    return {
        "model": question.card.model,
        "machine": msgspec.to_builtins(question.machine),
        "goal": _named(msgspec.to_builtins(question.goal)),
        "candidates": len(look.ranked),
        "chosen": _row_object(look.ranked[0], 1, look=look) if made else None,
        "reason": reason_words(look),
        "measured_decode_tokens_per_s": made.measured_decode_tokens_per_s if made else 0.0,
        "pinned": msgspec.to_builtins(question.pinned),
        "ranked": [_row_object(row, n, look=look) for n, row in (shown_rows(look, is_all=is_all) if made else ())],
        "would_change": [msgspec.to_builtins(change) for change in look.changes],
    }


def machine_words(machine: Machine) -> str:
    """The device that counts, and what is free of it."""
    first = machine.devices[0]
    free = f"{first.free_bytes / GIB:.1f} of {first.memory_bytes / GIB:.1f} GiB free"
    alike = sum(d.kind is not DeviceKind.CPU for d in machine.devices)
    more = f" and {alike - 1} more" if alike > 1 else ""
    return f"{first.name}{more} ({free})"


def whole_words(plan: Plan, question: Question) -> str:
    """The plan whole."""
    slots = "1 slot" if plan.slots == 1 else f"{plan.slots} slots"
    read = [f"prompts read {plan.prefill_chunk} tokens at a time"] if plan.prefill_chunk else []
    cache = ["F16 cache"] if plan.kv_type == "F16" else []
    shared = ["shared beginnings kept"] if plan.prefix_cache else []
    room = f"{slots} of {plan.slot_context_tokens:,} tokens each"
    where = f"on {where_words(plan, question)}" if plan.more_devices else f"on the {where_words(plan, question)}"
    odd = [words.partition(":")[0] for words in switches(plan)]
    return ", ".join([plan.quantization, where, room, *cache, *read, *shared, *odd])


def warning_words(row: Ranked, question: Question) -> str:
    """What speaks against keeping a plan, or nothing."""
    if row.verdict is Verdict.QUALITY:
        return f"It loses more quality than {question.goal.quality.value} jobs accept."
    return "It is slower than jobs ask." if row.verdict is Verdict.SLOW else ""


def kept_words(look: Outlook) -> str:
    """The plan that is kept, what it is predicted to do, and how to let it go."""
    question, row = look.question, look.kept
    if question.pinned is None:
        return ""
    undo = f"`starling plan {question.card.model} --unpin` ends that."
    if row is None:
        return f"{plan_words(question.pinned)}, whose device is not in this computer. {undo}"
    number = next((f"number {n}, " for n, other in enumerate(look.ranked, start=1) if other.plan == row.plan), "")
    one, low = (speed_words(s) for s in (row.estimate.decode_tokens_per_s, row.estimate.decode_low_tokens_per_s))
    speed = f"predicted about {one} tok/s for one job, at least {low}"
    warning = warning_words(row, question)
    said = f"{number}{whole_words(row.plan, question)}: {speed}."
    said += f" Warning: {warning[:1].lower()}{warning[1:]}" if warning else ""
    return f"{said} You keep it, whatever is listed here; {undo}"


def reason_words(look: Outlook) -> str:
    """Why this plan, or why none; agrees with the table."""
    choice, question = look.choice, look.question
    if isinstance(choice, NoPlan):
        return choice.reason if look.ranked else _missing_words(look)
    best = look.ranked[0]
    late = "; it will miss the response times that fast jobs ask for" if best.verdict is Verdict.SLOW else ""
    if best.estimate.reward_per_hour <= 0:
        cost = "Serving this model here would cost you money; pick a smaller one."
        return f"{plan_words(best.plan)} costs least, though its power costs more than it earns{late}. {cost}"
    others = [(n, r) for n, r in best_of_each_kind(look.ranked) if r.verdict is best.verdict]
    others = [(n, r) for n, r in others if r.plan.quantization != best.plan.quantization]
    is_topped = any(r.estimate.reward_per_hour > best.estimate.reward_per_hour for _, r in others)
    why = "loses least quality of those that earn most here" if is_topped else "earns most here"
    said = f"{plan_words(best.plan)} {why}, within the {question.goal.quality.value} quality budget"
    if others:
        number, other = max(others, key=lambda o: o[1].estimate.reward_per_hour)
        said += f"; next best is {_against(best, other, number=number)}"
    return f"{said}{late}."


def _against(best: Ranked, other: Ranked, *, number: int) -> str:
    name = f"number {number}, {other.plan.quantization}"
    if other.estimate.reward_per_hour <= 0:
        return f"{name}, whose power would cost more than it earns"
    less = 100 - earns_percent(other, best)
    amount = f"{abs(less)} % {'less' if less > 0 else 'more'}" if less else "about the same"
    return f"{name}, expected to earn {amount}"


def _missing_words(look: Outlook) -> str:
    more = next((change.more_bytes for change in look.changes if change.more_bytes), 0)
    amount = f"{more / GIB:.1f} GiB" if more else _MOST_MISSING
    first = look.question.machine.devices[0]
    memory = "RAM" if first.kind is DeviceKind.CPU else "GPU memory"
    free = f"{first.free_bytes / GIB:.1f} GiB are free"
    close = "Close other programs or pick" if 0 < more < _LESS_THAN_A_PROGRAM else "Pick"
    return f"No quantization of this model fits: {amount} of {memory} are missing ({free}). {close} a smaller model."


def _chosen(look: Outlook, choice: Choice, *, width: int) -> str:
    question, kept = look.question, look.kept
    estimate = choice.estimate if kept is None else kept.estimate
    measured = choice.measured_decode_tokens_per_s if kept is None else look.measured(kept.plan)
    one, low, high = (
        speed_words(speed)
        for speed in (estimate.decode_tokens_per_s, estimate.decode_low_tokens_per_s, estimate.decode_high_tokens_per_s)
    )
    promised = f"9 of 10 runs should be faster than {low}, which is what requesters are told"
    between = f"8 of 10 runs should fall between {low} and {high}"
    of_kept = "of the kept plan: " if kept is not None else ""
    lines = [
        ("Otherwise" if question.pinned else "Why", reason_words(look)),
        ("Predicted", f"{of_kept}about {one} tok/s for one job; {promised}, and {between}"),
        ("Measured", _measured_words(question, measured, said=estimate.decode_tokens_per_s)),
        ("Jobs", _jobs_words(question.goal.mix)),
    ]
    return _lines(lines, width=width)


def _lines(lines: list[tuple[str, str]], *, width: int) -> str:
    name_width = max(len("Predicted"), *(len(name) for name, _ in lines))
    return "\n".join(_wrapped(words, first=f"{name.ljust(name_width)}  ", width=width) for name, words in lines)


def _measured_words(question: Question, measured: float, *, said: float) -> str:
    if measured:
        off = 100 * (said / measured - 1)
        above = "above" if off >= 0 else "below"
        return f"{speed_words(measured)} tok/s; the prediction is {abs(off):.0f} % {above} that"
    if question.machine.runtime == "described":
        return "nothing: this computer is described, not measured, so the bounds are wide"
    if question.benchmark is None and not question.measured:
        return "nothing yet: `starling bench` measures this computer and narrows the bounds"
    return "not this plan itself; the prediction rests on what else was measured here"


def _jobs_words(mix: JobMix) -> str:
    times = "one at a time" if mix.concurrent <= 1 else f"{mix.concurrent:.0f} at once"
    return f"planned for {times}, with prompts of {mix.prompt_tokens} tokens and answers of {mix.output_tokens}"


def _changes(look: Outlook, *, width: int) -> str:
    if not look.changes:
        words = "Nothing that was tried would do better: more memory, other qualities, more or fewer jobs at once."
        return textwrap.fill(words, width)
    said = (_wrapped(change.sentence, first="  ", width=width) for change in look.changes)
    return "\n".join(["What would change this", *said])


def _wrapped(words: str, *, first: str, width: int) -> str:
    return textwrap.fill(words, width, initial_indent=first, subsequent_indent=" " * len(first))


def _row_object(row: Ranked, number: int, *, look: Outlook) -> dict[str, Any]:
    """One plan; verdict is empty for one that keeps every limit, measured is of one job (0: nothing was)."""
    return {
        "number": number,
        "plan": msgspec.to_builtins(row.plan),
        "estimate": _named(msgspec.to_builtins(row.estimate)),
        "verdict": row.verdict.value,
        "measured_decode_tokens_per_s": look.measured(row.plan),
    }


def _named(plain: dict[str, Any]) -> dict[str, Any]:
    """With units in the names that lack them."""
    units = {
        "reward_per_hour": "reward_smallest_units_per_hour",
        "kl_divergence": "kl_divergence_nats",
        "price_per_mtok": "price_smallest_units_per_mtok",
        "tariff_per_kwh": "tariff_smallest_units_per_kwh",
    }
    return {units.get(name, name): value for name, value in plain.items()}
