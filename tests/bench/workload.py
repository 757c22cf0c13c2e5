"""What every engine of a comparison is asked, and what it took: the same words, the same number of tokens, at once."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from tests.bench.synthetic import words


class Setup(msgspec.Struct, frozen=True):
    """How every engine is started: the file, parallel sequences, context of each, threads, layers on which GPU."""

    model: Path
    slots: int
    slot_context_tokens: int
    threads: int
    gpu_layers: int = 0
    device_id: str = ""


class Workload(msgspec.Struct, frozen=True):
    """Prompts given at once, each to be answered with exactly this many tokens, greedily."""

    prompts: tuple[str, ...]
    answer_tokens: int


class Run(msgspec.Struct, frozen=True):
    """What one engine took for one workload; cpu_s is that of the engine's own processes, not of who asks it."""

    prompt_tokens: int
    answer_tokens: int
    wall_s: float
    cpu_s: float
    ttft_s: tuple[float, ...] = ()

    @property
    def tokens_per_s(self) -> float:
        """Answer tokens a second over the whole set, reading the prompts included."""
        return self.answer_tokens / self.wall_s

    @property
    def tokens_per_cpu_s(self) -> float:
        """Answer tokens for a second of one processor."""
        return self.answer_tokens / self.cpu_s if self.cpu_s else 0.0


class Engine(Protocol):
    """A started engine with its model loaded."""

    async def run(self, workload: Workload) -> Run:
        """Answer all prompts. Raises RuntimeError when an answer is not as long as it has to be."""


def chat_prompt(text: str) -> str:
    """A user's turn as the synthetic models' template writes it."""
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def same_length_workload(requests: int, *, prompt_words: int, answer_tokens: int, seed: int) -> Workload:
    """Prompts of equally many tokens that differ from their first word."""
    prompts = tuple(words(prompt_words, seed=1000 * seed + number) for number in range(requests))
    return Workload(prompts, answer_tokens)


def check(run: Run, workload: Workload, name: str) -> Run:
    """The run, if every answer was whole. Raises RuntimeError."""
    expected = len(workload.prompts) * workload.answer_tokens
    if run.answer_tokens != expected:
        raise RuntimeError(f"{name} answered with {run.answer_tokens} tokens, not {expected}")
    return run
