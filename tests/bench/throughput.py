"""How fast the llama.cpp runtime generates at several batch sizes, and how much of a step is not llama_decode.

On the demo model with one thread: tiny, so that everything outside llama_decode shows as large as it ever gets.
"""

from __future__ import annotations

import time

from assets import asset_path
from core.job import ChatMessage, JobId, Sampling
from core.plan import Plan
from core.runtimes.llama_context import LlamaContext
from core.runtimes.llama_runtime import LlamaRuntime
from core.worker.messages import Completed, Generate
from tests.bench.report import Report

TOKENS = 200
BATCHES = (1, 4, 16)


class _TimedDecode:
    """Counts the time inside llama_decode by standing in for the context's method."""

    def __init__(self) -> None:
        self.wall_s = 0.0

    def install(self) -> None:
        decode = LlamaContext.decode

        def timed(context: LlamaContext) -> None:
            began = time.perf_counter()
            decode(context)
            self.wall_s += time.perf_counter() - began

        LlamaContext.decode = timed  # type: ignore[method-assign]


def run(*, is_quick: bool) -> Report:
    """Tokens a second by wall and by CPU, and the least share of the time outside llama_decode, at each batch size."""
    clock = _TimedDecode()
    clock.install()
    figures: dict[str, float] = {}
    for batch in BATCHES:
        figures |= measure(batch, clock, rounds=1 if is_quick else 3)
    return Report(figures)


def measure(batch: int, clock: _TimedDecode, *, rounds: int) -> dict[str, float]:
    """The best of some rounds with this many streams."""
    plan = Plan(model="bench", runtime="llama.cpp", quantization="", slots=batch, slot_context_tokens=512, threads=1)
    runtime = LlamaRuntime()
    runtime.load(plan, str(asset_path("demo_model/starling-demo-f16.gguf")))
    best, cpu_best, share = 0.0, 0.0, 1.0
    for round_number in range(rounds):
        for number in range(batch):
            words = f"What is the capital of country number {number}?"
            sampling = Sampling(max_tokens=TOKENS, seed=number)
            runtime.add(Generate(JobId(f"{round_number}-{number}"), (ChatMessage("user", words),), sampling))
        clock.wall_s = 0.0
        began, cpu_began, tokens = time.perf_counter(), time.process_time(), 0
        while runtime.can_step:
            tokens += sum(r.usage.completion_tokens for r in runtime.step() if isinstance(r, Completed))
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        best, cpu_best = max(best, tokens / wall_s), max(cpu_best, tokens / cpu_s)
        share = min(share, 1 - clock.wall_s / wall_s)
    runtime.unload()
    return {
        f"tokens_per_s_{batch}": best,
        f"tokens_per_cpu_s_{batch}": cpu_best,
        f"outside_decode_share_{batch}": share,
    }
