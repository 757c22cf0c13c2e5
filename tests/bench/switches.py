"""What each switch of a plan does to each kind of work: prefix caching, chunked prefill, batching, all, none.

A fresh worker for each cell of the table, the same clients in each. Never compares texts: on quantized weights they
depend on the company.
"""

from __future__ import annotations

import statistics
import sys

import msgspec
import numpy as np
import psutil
import trio

from core.metamodel.timetable import Clients, Workload
from core.plan import Plan
from tests.bench.clients import Voice, clients_of
from tests.bench.peers.streams import Answer, Client, serve_all
from tests.bench.report import Report
from tests.bench.synthetic import synthetic_model

SLOTS = 4
SLOT_CONTEXT = 2048
CHUNK = 128
SYSTEM_TOKENS = 512
QUESTION_TOKENS = 16
SWITCHES = {
    "none": (False, False, False),
    "prefix caching": (True, False, False),
    "chunked prefill": (False, True, False),
    "continuous batching": (False, False, True),
    "all": (True, True, True),
}


class Amount(msgspec.Struct, frozen=True):
    """What is measured: rounds of questions of each client, tokens of an answer, the synthetic model, the workloads."""

    rounds: int
    answer_tokens: int
    model: str
    workloads: tuple[str, ...]


FULL = Amount(
    rounds=4, answer_tokens=32, model="160m", workloads=("chat", "long prompts", "short, mixed", "multi-turn")
)
QUICK = Amount(rounds=2, answer_tokens=12, model="20m", workloads=("chat", "short, mixed"))


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
    path = str(await synthetic_model(amount.model, "Q4_0"))
    figures = await _prefix_speedups(path, amount)
    cells: dict[str, Seen] = {}
    offered = _workloads(amount)
    for workload in amount.workloads:
        clients = clients_of(offered[workload], Voice())
        for name, switches in SWITCHES.items():
            print(f"\r  {workload}: {name:<24}", end="", file=sys.stderr, flush=True)
            cells[f"{workload:<14} {name:<20}"] = seen(await _served(switches, path, clients=clients))
    print(file=sys.stderr)
    lines = {"model": f"synthetic, {amount.model}, Q4_0"}
    return Report(figures, lines | {name: str(cell) for name, cell in cells.items()})


async def _prefix_speedups(path: str, amount: Amount) -> dict[str, float]:
    """Median time to the first text without a prefix cache over that with one: a client alone, and four at once."""
    figures = {}
    for ending, count in {"": 1, "_4": 4}.items():
        rounds = 2 * amount.rounds if count == 1 else amount.rounds
        clients = clients_of((_chat(count, msgspec.structs.replace(amount, rounds=rounds)),), Voice())
        without = seen(await _served((False, True, True), path, clients=clients))
        cached = seen(await _served((True, True, True), path, clients=clients))
        figures[f"prefix_ttft_speedup{ending}"] = without.ttft_median_s / cached.ttft_median_s
    return figures


async def _served(switches: tuple[bool, bool, bool], path: str, *, clients: list[Client]) -> list[Answer]:
    return await serve_all(plan_of(switches, threads=psutil.cpu_count(logical=False) or 1), path, clients)


def plan_of(switches: tuple[bool, bool, bool], *, threads: int, context_tokens: int = SLOT_CONTEXT) -> Plan:
    """A plan with these of SWITCHES."""
    prefix_cache, chunked, continuous = switches
    return Plan(
        model="bench",
        runtime="llama.cpp",
        quantization="",
        slots=SLOTS,
        slot_context_tokens=context_tokens,
        threads=threads,
        prefill_chunk=CHUNK if chunked else 0,
        prefix_cache=prefix_cache,
        continuous_batching=continuous,
    )


def seen(answers: list[Answer]) -> Seen:
    """What the clients of these answers saw together."""
    took_s = max(a.ended_at for a in answers) - min(a.began_at for a in answers)
    ttft = [a.ttft_s for a in answers]
    return Seen(
        tokens_per_s=sum(a.tokens for a in answers) / took_s,
        ttft_median_s=statistics.median(ttft),
        ttft_p95_s=float(np.quantile(ttft, 0.95)),
        worst_stall_s=max(a.stall_s for a in answers),
    )


def _workloads(amount: Amount) -> dict[str, Workload]:
    """A long system prompt in common; long prompts beside streams; answers of any length; conversations."""
    rounds, tokens = amount.rounds, amount.answer_tokens
    streams = Clients(SLOTS - 1, QUESTION_TOKENS, 2 * rounds * tokens, rounds=1)
    return {
        "chat": (_chat(SLOTS, amount),),
        "long prompts": (streams, Clients(1, 2 * SYSTEM_TOKENS, 4, rounds=rounds)),
        "short, mixed": (Clients(2 * SLOTS, QUESTION_TOKENS, tokens, spread=0.9, rounds=rounds),),
        "multi-turn": (Clients(SLOTS, 5 * QUESTION_TOKENS, tokens, 4 * QUESTION_TOKENS, rounds=rounds, keeps=True),),
    }


def _chat(count: int, amount: Amount) -> Clients:
    """Questions that have nothing in common but a long system prompt."""
    prompt = SYSTEM_TOKENS + QUESTION_TOKENS
    return Clients(count, prompt, amount.answer_tokens, shared_tokens=SYSTEM_TOKENS, rounds=amount.rounds)
