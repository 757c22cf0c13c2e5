"""What `starling plan` prints: a table and sentences for people, one object for programs.

Pure: an outlook in, text out.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import msgspec

from core.device import DeviceKind, Machine
from core.metamodel.choice import Ranked, Verdict, step_s
from core.metamodel.outlook import Outlook, Question, best_of_each_kind
from core.plan import Choice, NoPlan, Plan, plan_words

SHOWN = 10
WIDTH = 110
GB = 1e9
_QUALITY = ((0.0006, "none"), (0.006, "hardly any"), (0.032, "little"), (0.11, "some"))
_HEADS = (
    "#", "TYPE", "RUNS ON", "SLOTS", "ONE JOB", "MEASURED", "AT LEAST", "ALL SLOTS", "MEMORY", "QUALITY LOST", "EARNS",
    "",
)  # fmt: skip
_MEASURED = _HEADS.index("MEASURED")
_WORDS = {_HEADS.index(name) for name in ("TYPE", "RUNS ON", "QUALITY LOST", "")}


class Telling(msgspec.Struct, frozen=True):
    """How it is told: asked is the command that asks the same; is_keepable: one of these plans can be kept."""

    asked: str
    is_all: bool = False
    is_keepable: bool = False


def outlook_text(look: Outlook, telling: Telling) -> str:
    """The whole answer for people."""
    question = look.question
    head = f"How to serve {question.card.title} on {machine_words(question.machine)}"
    if isinstance(look.choice, NoPlan):
        return "\n\n".join([head, look.choice.reason, *([_changes(look)] if look.changes else [])])
    parts = [head, _table(look, is_all=telling.is_all), _legend(look, telling), _chosen(look, look.choice)]
    return "\n\n".join([*parts, _changes(look)])


def outlook_object(look: Outlook) -> dict[str, Any]:
    """The whole answer for programs; speeds in tokens per second, memory in bytes, rewards in smallest units."""
    question, choice = look.question, look.choice
    made = choice if isinstance(choice, Choice) else None
    return {
        "model": question.card.model,
        "machine": msgspec.to_builtins(question.machine),
        "goal": msgspec.to_builtins(question.goal),
        "candidates": len(look.ranked),
        "chosen": _row_object(look.ranked[0], 1, look=look) if made else None,
        "reason": choice.reason,
        "measured_decode_tokens_per_s": made.measured_decode_tokens_per_s if made else 0.0,
        "pinned": msgspec.to_builtins(question.pinned),
        "ranked": [_row_object(row, place, look=look) for place, row in enumerate(look.ranked, start=1)],
        "would_change": [msgspec.to_builtins(change) for change in look.changes],
    }


def machine_words(machine: Machine) -> str:
    """The device that counts, and what is free of it."""
    first = machine.devices[0]
    free = f"{first.free_bytes / GB:.1f} of {first.memory_bytes / GB:.1f} GB free"
    alike = sum(d.kind is not DeviceKind.CPU for d in machine.devices)
    more = f" and {alike - 1} more" if alike > 1 else ""
    return f"{first.name}{more} ({free})"


def pinned_words(question: Question) -> str:
    """What is kept, or nothing."""
    if question.pinned is None:
        return ""
    undo = f"`starling plan {question.card.model} --unpin`"
    return f"You keep {plan_words(question.pinned)} for this model, whatever is listed here; {undo} ends that."


def _table(look: Outlook, *, is_all: bool) -> str:
    every = list(enumerate(look.ranked, start=1))
    shown = every if is_all else best_of_each_kind(look.ranked)[:SHOWN]
    kept = [(place, row) for place, row in every if row.plan == look.question.pinned]
    shown = sorted(dict((*shown, *kept)).items())
    best = look.ranked[0]
    rows = [_HEADS, *(_cells(place, row, best=best, look=look) for place, row in shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    is_known = any(row[_MEASURED] for row in rows[1:])
    return "\n".join(_line(row, widths, has_measured=is_known) for row in rows)


def _line(cells: Sequence[str], widths: Sequence[int], *, has_measured: bool) -> str:
    padded = (
        cell.ljust(width) if column in _WORDS else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        if column != _MEASURED or has_measured
    )
    return "  ".join(padded).rstrip()


def _cells(place: int, row: Ranked, *, best: Ranked, look: Outlook) -> tuple[str, ...]:
    plan, estimate = row.plan, row.estimate
    measured = look.measured(plan)
    together = plan.slots / step_s(estimate, plan.slots)
    income = best.estimate.reward_per_hour
    share = f"{100 * estimate.reward_per_hour / income:.0f} %" if estimate.reward_per_hour > 0 else "loses"
    return (
        str(place),
        plan.quantization,
        _where(plan, look.question),
        str(plan.slots),
        f"{estimate.decode_tokens_per_s:.0f}",
        f"{measured:.0f}" if measured else "",
        f"{estimate.decode_low_tokens_per_s:.0f}",
        f"{together:.0f}",
        _size(estimate.memory_bytes),
        _quality_words(estimate.kl_divergence),
        share,
        _remark(row, is_chosen=row is best, pinned=look.question.pinned),
    )


def _size(bytes_: int) -> str:
    return f"{bytes_ / GB:.1f} GB" if bytes_ >= GB else f"{bytes_ / 1e6:.0f} MB"


def _where(plan: Plan, question: Question) -> str:
    layers = question.card.layers + 1
    place = "GPU" if plan.gpu_layers else "processor"
    if plan.more_devices:
        place = f"{1 + len(plan.more_devices)} GPUs"
    if 0 < plan.gpu_layers < layers:
        place = f"{place}, {plan.gpu_layers} of {layers} layers"
    return place if plan.runtime == "llama.cpp" else f"{place}, {plan.runtime}"


def _quality_words(divergence: float) -> str:
    return next((words for most, words in _QUALITY if divergence <= most), "much")


def _remark(row: Ranked, *, is_chosen: bool, pinned: Plan | None) -> str:
    marks = ["chosen"] if is_chosen else []
    marks += ["kept by you"] if row.plan == pinned else []
    marks += [row.verdict.value] if row.verdict is not Verdict.GOOD else []
    marks += _switches(row.plan)
    return ", ".join(marks)


def _switches(plan: Plan) -> list[str]:
    """What is not as usual."""
    named = {
        f"{plan.kv_type} cache": plan.kv_type != "F16",
        "whole prompts": plan.prefill_chunk == 0,
        "batches start together": not plan.continuous_batching,
        "one cache for all slots": plan.unified_kv,
        f"{plan.draft_tokens} tokens guessed ahead": plan.draft_tokens > 0,
        "no flash attention": not plan.flash_attention,
    }
    return [words for words, is_so in named.items() if is_so]


def _legend(look: Outlook, telling: Telling) -> str:
    count = len(look.ranked)
    rest = f" These are the best of each kind of {count}; `{telling.asked} --all` lists every one."
    rest = "" if telling.is_all else rest
    keep = f" `{telling.asked} --pin NUMBER` keeps the one of that number." if telling.is_keepable else ""
    return (
        "Speeds are in tokens per second: ONE JOB is expected of a job alone, AT LEAST is what is promised,\n"
        f"ALL SLOTS is expected of all jobs together.{rest}\n"
        f"EARNS is against the chosen one.{keep}"
    )


def _chosen(look: Outlook, choice: Choice) -> str:
    estimate, mix = choice.estimate, look.question.goal.mix
    low, high = estimate.decode_low_tokens_per_s, estimate.decode_high_tokens_per_s
    speed = f"about {estimate.decode_tokens_per_s:.0f} tok/s for one job; 8 of 10 runs should fall between"
    lines = [
        ("Why", choice.reason),
        ("Predicted", f"{speed} {low:.0f} and {high:.0f}"),
        ("Measured", _measured_words(look.question, choice)),
        ("Jobs", _jobs_words(mix.prompt_tokens, mix.output_tokens, concurrent=mix.concurrent)),
    ]
    kept = pinned_words(look.question)
    lines += [("Kept", kept)] if kept else []
    width = max(len(name) for name, _ in lines)
    return "\n".join(_wrapped(words, first=f"{name.ljust(width)}  ") for name, words in lines)


def _measured_words(question: Question, choice: Choice) -> str:
    if choice.measured_decode_tokens_per_s:
        speed = choice.measured_decode_tokens_per_s
        off = 100 * (choice.estimate.decode_tokens_per_s / speed - 1)
        return f"{speed:.0f} tok/s; the prediction is {abs(off):.0f} % {'above' if off >= 0 else 'below'} that"
    if question.machine.runtime == "described":
        return "nothing: this computer is described, not measured, so the bounds are wide"
    if question.benchmark is None and not question.measured:
        return "nothing yet: `starling bench` measures this computer and narrows the bounds"
    return "not this plan itself; the prediction rests on what else was measured here"


def _jobs_words(prompt: int, output: int, *, concurrent: float) -> str:
    together = "one at a time" if concurrent <= 1 else f"{concurrent:.0f} at once"
    return f"planned for {together}, with prompts of {prompt} tokens and answers of {output}"


def _changes(look: Outlook) -> str:
    if not look.changes:
        return "Nothing that was tried would change this: more memory, other qualities, more or fewer jobs at once."
    return "\n".join(["What would change this", *(_wrapped(change.sentence, first="  ") for change in look.changes)])


def _wrapped(words: str, *, first: str) -> str:
    return textwrap.fill(words, WIDTH, initial_indent=first, subsequent_indent=" " * len(first))


def _row_object(row: Ranked, number: int, *, look: Outlook) -> dict[str, Any]:
    """One plan; verdict is empty for one that keeps every limit, measured is of one job (0: nothing was)."""
    return {
        "number": number,
        "plan": msgspec.to_builtins(row.plan),
        "estimate": msgspec.to_builtins(row.estimate),
        "verdict": row.verdict.value,
        "measured_decode_tokens_per_s": look.measured(row.plan),
    }
