"""Runs jobs through any runtime, and gathers what they were told: for the laws that every runtime obeys."""

from __future__ import annotations

from pathlib import Path

import msgspec

from core.job import ChatMessage, JobId, Sampling, TokenLogprob
from core.plan import Plan
from core.runtimes.llama_file import quantize_file
from core.runtimes.runtime import Runtime, open_runtime
from core.worker.messages import Chunks, Completed, Generate, Quantize, WorkerReport
from tests.models import write_tiny_gguf

RUNTIMES = ("llama.cpp", "torch")
END = 256 + 6 + 2
PLAN = Plan(
    model="tiny",
    runtime="",
    quantization="F32",
    slots=3,
    slot_context_tokens=160,
    prefill_chunk=24,
    kv_type="F32",
    flash_attention=False,
)
FIRST = JobId("job-1")


class Heard:
    """What jobs were told: texts and odds by job, and every other report in its order."""

    def __init__(self) -> None:
        self.texts: dict[JobId, str] = {}
        self.odds: dict[JobId, list[TokenLogprob]] = {}
        self.others: list[WorkerReport] = []

    def hear(self, reports: list[WorkerReport]) -> None:
        for report in reports:
            if not isinstance(report, Chunks):
                self.others.append(report)
                continue
            for chunk in report.chunks:
                self.texts[chunk.job_id] = self.texts.get(chunk.job_id, "") + chunk.text
                self.odds.setdefault(chunk.job_id, []).extend(chunk.logprobs)

    @property
    def done(self) -> dict[JobId, Completed]:
        return {r.job_id: r for r in self.others if isinstance(r, Completed)}


def write_f32_gguf(folder: Path) -> Path:
    """The tiny random model in 32-bit floats."""
    source = write_tiny_gguf(folder / "tiny.gguf")
    quantize_file(Quantize(str(source), str(folder / "f32.gguf"), "F32", 1), lambda fraction, name: None)
    return folder / "f32.gguf"


def load(name: str, path: Path, **switches: object) -> Runtime:
    runtime = open_runtime(name)
    runtime.load(msgspec.structs.replace(PLAN, runtime=name, **switches), str(path))
    return runtime


def job(number: int, *, allowance: int | None = None, sampling: Sampling | None = None) -> Generate:
    words = f"hello the world {number} " * (1 + number % 3)
    sampling = sampling or Sampling(max_tokens=24)
    return Generate(JobId(f"job-{number}"), (ChatMessage("user", words),), sampling, allowance)


def run(runtime: Runtime, *jobs: Generate) -> Heard:
    for one in jobs:
        runtime.add(one)
    return drain(runtime, Heard())


def drain(runtime: Runtime, heard: Heard) -> Heard:
    for _ in range(3000):
        if not runtime.can_step:
            return heard
        heard.hear(runtime.step())
    raise AssertionError("the batch never comes to rest")


def text_of(runtime: Runtime, sampling: Sampling) -> str:
    return run(runtime, job(1, sampling=sampling)).texts.get(FIRST, "")
