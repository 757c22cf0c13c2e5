"""What each switch of a plan does to each kind of work: prefix caching, chunked prefill, batching, all, none.

A fresh worker for each cell of the table, the same clients in each. Never compares texts: on quantized weights they
depend on the company.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator

import msgspec
import numpy as np
import psutil
import trio

from core.job import ChatMessage
from core.plan import Plan
from tests.bench.peers.streams import Answer, Ask, Client, serve_all
from tests.bench.report import Report
from tests.bench.synthetic import synthetic_model, words

SLOTS = 4
SLOT_CONTEXT = 2048
CHUNK = 128
SYSTEM_WORDS = 512
QUESTION_WORDS = 16
SWITCHES = {
    "none": (False, False, False),
    "prefix caching": (True, False, False),
    "chunked prefill": (False, True, False),
    "continuous batching": (False, False, True),
    "all": (True, True, True),
}


class Amount(msgspec.Struct, frozen=True):
    """How much each client asks for: rounds of questions, tokens of an answer."""

    rounds: int
    answer_tokens: int


FULL = Amount(rounds=4, answer_tokens=32)
QUICK = Amount(rounds=2, answer_tokens=12)


class Seen(msgspec.Struct, frozen=True):
    """One cell: what the clients of one workload saw."""

    tokens_per_s: float
    ttft_median_s: float
    ttft_p95_s: float
    worst_stall_s: float

    def __str__(self) -> str:
        waits = f"first text {self.ttft_median_s:.2f} s, 95 % {self.ttft_p95_s:.2f} s"
        return f"{self.tokens_per_s:6.1f} tokens/s   {waits}   longest silence {self.worst_stall_s:.2f} s"


def run(*, is_quick: bool) -> Report:
    """The table, and how much sooner the first text comes with a prefix cache."""
    return trio.run(_run, QUICK if is_quick else FULL)


async def _run(amount: Amount) -> Report:
    path = str(await synthetic_model("160m", "Q4_0"))
    figures = await _prefix_speedups(path, amount)
    cells: dict[str, Seen] = {}
    for workload, clients in _workloads(amount).items():
        for name, switches in SWITCHES.items():
            print(f"\r  {workload}: {name:<24}", end="", file=sys.stderr, flush=True)
            cells[f"{workload:<14} {name:<20}"] = _seen(await serve_all(_plan(switches), path, clients))
    print(file=sys.stderr)
    return Report(figures, {name: str(seen) for name, seen in cells.items()})


async def _prefix_speedups(path: str, amount: Amount) -> dict[str, float]:
    """Median time to the first text without a prefix cache over that with one: a client alone, and four at once."""
    figures = {}
    for ending, count in {"": 1, "_4": 4}.items():
        rounds = 2 * amount.rounds if count == 1 else amount.rounds
        clients = [_chat(number, msgspec.structs.replace(amount, rounds=rounds)) for number in range(count)]
        without = _seen(await serve_all(_plan((False, True, True)), path, clients))
        cached = _seen(await serve_all(_plan((True, True, True)), path, clients))
        figures[f"prefix_ttft_speedup{ending}"] = without.ttft_median_s / cached.ttft_median_s
    return figures


def _plan(switches: tuple[bool, bool, bool]) -> Plan:
    prefix_cache, chunked, continuous = switches
    return Plan(
        model="bench",
        runtime="llama.cpp",
        quantization="",
        slots=SLOTS,
        slot_context_tokens=SLOT_CONTEXT,
        threads=psutil.cpu_count(logical=False) or 1,
        prefill_chunk=CHUNK if chunked else 0,
        prefix_cache=prefix_cache,
        continuous_batching=continuous,
    )


def _seen(answers: list[Answer]) -> Seen:
    took_s = max(a.ended_at for a in answers) - min(a.began_at for a in answers)
    ttft = [a.ttft_s for a in answers]
    return Seen(
        tokens_per_s=sum(a.tokens for a in answers) / took_s,
        ttft_median_s=statistics.median(ttft),
        ttft_p95_s=float(np.quantile(ttft, 0.95)),
        worst_stall_s=max(a.stall_s for a in answers),
    )


def _workloads(amount: Amount) -> dict[str, list[Client]]:
    streams = [_stream(number, amount) for number in range(SLOTS - 1)]
    return {
        "chat": [_chat(number, amount) for number in range(SLOTS)],
        "long prompts": [*streams, _long_prompts(amount)],
        "short, mixed": [_mixed(number, amount) for number in range(2 * SLOTS)],
        "multi-turn": [_turns(number, amount) for number in range(SLOTS)],
    }


def _chat(number: int, amount: Amount) -> Client:
    """Questions that have nothing in common but a long system prompt."""

    async def client(ask: Ask) -> None:
        system = ChatMessage("system", words(SYSTEM_WORDS, seed=1))
        for question in _questions(number, amount.rounds):
            await ask((system, question), amount.answer_tokens)

    return client


def _stream(number: int, amount: Amount) -> Client:
    """A short question with a long answer: the stream that others disturb."""

    async def client(ask: Ask) -> None:
        for question in _questions(100 + number, 1):
            await ask((question,), 2 * amount.rounds * amount.answer_tokens)

    return client


def _long_prompts(amount: Amount) -> Client:
    """Long prompts, one after another, with hardly an answer."""

    async def client(ask: Ask) -> None:
        for turn in range(amount.rounds):
            await ask((ChatMessage("user", words(2 * SYSTEM_WORDS, seed=200 + turn)),), 4)

    return client


def _mixed(number: int, amount: Amount) -> Client:
    """Short questions with answers of very different lengths."""

    async def client(ask: Ask) -> None:
        rng = np.random.default_rng(number)
        for question in _questions(300 + number, amount.rounds):
            await ask((question,), int(rng.integers(4, 2 * amount.answer_tokens)))

    return client


def _turns(number: int, amount: Amount) -> Client:
    """One conversation: every prompt is all that was said before, and a new question."""

    async def client(ask: Ask) -> None:
        said: tuple[ChatMessage, ...] = (ChatMessage("system", words(4 * QUESTION_WORDS, seed=400 + number)),)
        for question in _questions(500 + number, amount.rounds):
            said = (*said, question)
            answer = await ask(said, amount.answer_tokens)
            said = (*said, ChatMessage("assistant", answer.text))

    return client


def _questions(number: int, count: int) -> Iterator[ChatMessage]:
    for turn in range(count):
        yield ChatMessage("user", words(QUESTION_WORDS, seed=1_000 * number + turn))
