"""How fast the llama.cpp runtime generates at several batch sizes, and how much of a step is not llama_decode.

Run: python -m tests.bench.throughput MODEL.gguf [--threads N] [--batches 1 4 16]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from core.job import ChatMessage, JobId, Sampling
from core.plan import Plan
from core.runtimes.llama_context import LlamaContext
from core.runtimes.llama_runtime import LlamaRuntime
from core.worker.messages import Completed, Generate

TOKENS = 200


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


def measure(path: Path, batch: int, *, threads: int, temperature: float, clock: _TimedDecode) -> str:
    """One line: tokens a second by wall and by CPU, and the share of the time outside llama_decode."""
    plan = Plan(
        model="bench", runtime="llama.cpp", quantization="", slots=batch, slot_context_tokens=512, threads=threads
    )
    runtime = LlamaRuntime()
    runtime.load(plan, str(path))
    best, cpu_best, share = 0.0, 0.0, 1.0
    for round_number in range(3):
        for number in range(batch):
            sampling = Sampling(max_tokens=TOKENS, temperature=temperature, seed=number)
            words = f"What is the capital of country number {number}?"
            runtime.add(Generate(JobId(f"{round_number}-{number}"), (ChatMessage("user", words),), sampling))
        clock.wall_s = 0.0
        began, cpu_began, tokens = time.perf_counter(), time.process_time(), 0
        while runtime.can_step:
            tokens += sum(r.usage.completion_tokens for r in runtime.step() if isinstance(r, Completed))
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        best, cpu_best = max(best, tokens / wall_s), max(cpu_best, tokens / cpu_s)
        share = min(share, 1 - clock.wall_s / wall_s)
    runtime.unload()
    return f"{batch:3d} streams: {best:8.0f} tokens/s, {cpu_best:8.0f} per CPU-second, {share:6.1%} outside decode"


def main() -> None:
    """Measure each batch size and print its line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    arguments = parser.parse_args()
    clock = _TimedDecode()
    clock.install()
    for batch in arguments.batches:
        line = measure(
            arguments.model, batch, threads=arguments.threads, temperature=arguments.temperature, clock=clock
        )
        print(line)


if __name__ == "__main__":
    main()
