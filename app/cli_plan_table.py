"""The table of `starling plan`, and what its columns, letters and marks mean.

Pure: an outlook in, text out. Never wider than it is told while its cells allow it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from string import ascii_letters

import msgspec

from core.metamodel.alternatives import GIB, speed_words, together
from core.metamodel.choice import Ranked, Verdict
from core.metamodel.outlook import Outlook, Question, best_of_each_kind
from core.metamodel.response_times import response_times
from core.plan import Plan

SHOWN = 10
Rows = Sequence[tuple[int, Ranked]]
_QUALITY = ((0.0006, "none"), (0.006, "trace"), (0.032, "little"), (0.11, "some"))
_HEADS = (
    ("", "RUNS", "", "ONE", "", "ALL", "MEMORY", "QUALITY", "", ""),
    ("TYPE", "ON", "SLOTS", "JOB", "MEASURED", "SLOTS", "GiB", "LOST", "EARNS", "NOTES"),
)
_MEASURED = _HEADS[1].index("MEASURED") + 1
_WORDS = {_HEADS[1].index(name) + 1 for name in ("TYPE", "ON", "LOST", "NOTES")}
_FIRST, _PAUSE = "slow to begin", "slow to go on"


class Telling(msgspec.Struct, frozen=True):
    """How it is told: asked is the command that asks the same; is_keepable: one of these plans can be kept. width: of
    the lines, in letters."""

    asked: str
    is_all: bool = False
    is_keepable: bool = False
    width: int = 99


def shown_rows(look: Outlook, *, is_all: bool) -> Rows:
    """The rows with their numbers: all, or the best of each kind and the one that is kept."""
    every = list(enumerate(look.ranked, start=1))
    shown = every if is_all else best_of_each_kind(look.ranked)[:SHOWN]
    kept = [(place, row) for place, row in every if row.plan == look.question.pinned]
    return sorted(dict((*shown, *kept)).items())


def table(look: Outlook, rows: Rows, *, width: int) -> str:
    """A line a plan, under two of heads."""
    letters = _letters(look, rows)
    plans = [_cells(place, row, look=look, letters=letters) for place, row in rows]
    cells = [("", *_HEADS[0]), ("#", *_HEADS[1]), *plans]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    if not any(row[_MEASURED] for row in cells[2:]):
        widths[_MEASURED] = 0
    lines = [_line(row, widths, gap="  ") for row in cells]
    return "\n".join(lines if max(map(len, lines)) <= width else [_line(row, widths, gap=" ") for row in cells])


def legend(look: Outlook, rows: Rows, *, telling: Telling) -> str:
    """What the table's words and letters mean, and how to see or keep others."""
    plans = [row.plan for _, row in rows]
    measured = " MEASURED is what one job really did here." if any(look.measured(plan) for plan in plans) else ""
    contexts = sorted({plan.slot_context_tokens for plan in plans})
    room = f"{contexts[0]:,}" if len(contexts) == 1 else f"{contexts[0]:,} to {contexts[-1]:,}"
    said = [
        f"Speeds are in tokens per second: of ONE JOB alone, and of ALL SLOTS together.{measured}",
        f"SLOTS are jobs served at the same time, each with room for {room} tokens of prompt and answer.",
        "EARNS compares with number 1, its power paid. QUALITY LOST compares with the unquantized model.",
    ]
    layers = look.question.card.layers + 1
    split = next((plan for plan in plans if 0 < plan.gpu_layers < layers), None)
    if split is not None:
        some = f"{split.gpu_layers} of {layers} layers"
        said.append(f"{where_words(split, look.question)}: {some} are there, the others on the slower processor.")
    said += [f"{letter}: {_meaning(key, look, rows=rows)}." for key, letter in _letters(look, rows).items()]
    lines = [textwrap.fill(words, telling.width, subsequent_indent="  ") for words in said]
    if not telling.is_all:
        lines.append(f"These are the best of each kind of {len(look.ranked)}. Every one is listed by")
        lines.append(f"  {telling.asked} --all")
    if telling.is_keepable:
        lines.append(f"The plan of a number is kept by\n  {telling.asked} --pin NUMBER")
    return "\n".join(lines)


def earns_words(row: Ranked, best: Ranked) -> str:
    """What a row earns against the best one."""
    if row.estimate.reward_per_hour <= 0:
        return "a loss"
    return f"{earns_percent(row, best)} %"


def earns_percent(row: Ranked, best: Ranked) -> int:
    """In percent of what the best one earns; both above zero."""
    return round(100 * row.estimate.reward_per_hour / best.estimate.reward_per_hour)


def where_words(plan: Plan, question: Question) -> str:
    """On what a plan runs, in a few letters."""
    layers = question.card.layers + 1
    place = f"{1 + len(plan.more_devices)} GPUs" if plan.more_devices else "GPU" if plan.gpu_layers else "processor"
    return f"{place} {plan.gpu_layers}/{layers}" if 0 < plan.gpu_layers < layers else place


def switches(plan: Plan) -> list[str]:
    """What is not as usual, in plain words."""
    named = {
        f"runs on {plan.runtime}": plan.runtime != "llama.cpp",
        f"{plan.kv_type} cache: what the model notes of each job is kept smaller": plan.kv_type != "F16",
        "whole prompts: each is read in one go while the other jobs wait": plan.prefill_chunk == 0,
        "batches start together: a new job waits for the others' end": not plan.continuous_batching,
        "one cache for all slots": plan.unified_kv,
        f"{plan.draft_tokens} tokens guessed ahead": plan.draft_tokens > 0,
        "no flash attention": not plan.flash_attention,
    }
    return [words for words, is_so in named.items() if is_so]


def _cells(place: int, row: Ranked, *, look: Outlook, letters: dict[str, str]) -> tuple[str, ...]:
    plan, estimate = row.plan, row.estimate
    measured = look.measured(plan)
    memory = estimate.memory_bytes / GIB
    mark = "kept" if plan == look.question.pinned else "" if look.question.pinned else "chosen" if place == 1 else ""
    noted = "".join(sorted(letters[key] for key in _keys(place, row, look=look)))
    return (
        str(place),
        plan.quantization,
        where_words(plan, look.question),
        str(plan.slots),
        speed_words(estimate.decode_tokens_per_s),
        speed_words(measured) if measured else "",
        speed_words(together(plan, estimate)),
        f"{memory:.1f}" if memory >= 1 else f"{memory:.2f}",
        next((words for most, words in _QUALITY if estimate.kl_divergence <= most), "much"),
        earns_words(row, look.ranked[0]),
        " ".join(filter(None, (mark, noted))),
    )


def _line(cells: Sequence[str], widths: Sequence[int], *, gap: str) -> str:
    padded = (
        cell.ljust(width) if column in _WORDS else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        if width
    )
    return gap.join(padded).rstrip()


def _letters(look: Outlook, rows: Rows) -> dict[str, str]:
    """A letter for each thing that is to be noted, in the order of the rows."""
    keys = dict.fromkeys(key for place, row in rows for key in _keys(place, row, look=look))
    return dict(zip(keys, ascii_letters, strict=False))


def _keys(place: int, row: Ranked, *, look: Outlook) -> list[str]:
    """What is to be noted of a row."""
    keys = ["would be chosen if you kept none"] if place == 1 and look.question.pinned not in (None, row.plan) else []
    match row.verdict:
        case Verdict.GOOD:
            pass
        case Verdict.SLOW:
            keys += _slow_keys(row, look.question)
        case Verdict.QUALITY:
            keys.append(f"below {look.question.goal.quality.value} quality")
        case Verdict.POWER | Verdict.MEMORY:
            keys.append(row.verdict.value)
    return keys + switches(row.plan)


def _slow_keys(row: Ranked, question: Question) -> list[str]:
    limits = question.goal.limits
    times = response_times(row.plan, row.estimate, mix=question.goal.mix)
    return [
        *([_FIRST] if times.first_s > limits.ttft_s else []),
        *([_PAUSE] if times.pause_s > limits.tpot_s else []),
    ]


def _meaning(key: str, look: Outlook, *, rows: Rows) -> str:
    """What a letter stands for; of what is too slow, how slow and what the limit is."""
    question = look.question
    limits = question.goal.limits
    noted = [row for place, row in rows if key in _keys(place, row, look=look)]
    times = [response_times(row.plan, row.estimate, mix=question.goal.mix) for row in noted]
    if key == _FIRST:
        return f"first word after {_seconds([t.first_s for t in times])}; jobs accept {limits.ttft_s:g} s"
    if key == _PAUSE:
        return f"pauses of {_seconds([t.pause_s for t in times])}; jobs accept {limits.tpot_s:g} s"
    return key


def _seconds(values: Sequence[float]) -> str:
    least, most = (f"{value:.3g}" for value in (min(values), max(values)))
    return f"{least} s" if least == most else f"{least} to {most} s"
