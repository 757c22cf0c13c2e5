"""The law of the batch for torch: whatever happens around a job, in F32 its greedy answer is what it would be alone.

test_schedules.py holds llama.cpp to the same law.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from core.job import JobId, Sampling
from core.plan import Plan
from core.runtimes.runtime import Runtime, open_runtime
from core.worker.messages import Chunks, Completed, FaultKind, Generate, JobFault, WorkerReport
from tests.models import write_tiny_gguf

PLAN = Plan("tiny", "torch", "F32", slots=2, slot_context_tokens=256, prefill_chunk=24)
SYSTEM = "You are the tiny oracle. Answer in bytes, and never twice the same. "
PROMPTS = (
    SYSTEM + "Who are you",
    SYSTEM + "Who is there, and why",
    "short",
    "another beginning " * 3,
    SYSTEM * 2,
)
TOKENS = 16
OPS = st.lists(
    st.tuples(
        st.sampled_from(("add", "add", "add", "step", "step", "step", "preempt", "resume", "cancel", "allow")),
        st.integers(0, len(PROMPTS) - 1),
        st.integers(0, 12),
    ),
    min_size=4,
    max_size=30,
)
FEW = settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate)
)


class Told:
    """What was heard of each job."""

    def __init__(self) -> None:
        self.pieces: dict[JobId, list[bytes]] = {}
        self.ended: dict[JobId, Completed | JobFault] = {}

    def hear(self, reports: list[WorkerReport]) -> None:
        for report in reports:
            if isinstance(report, Chunks):
                for chunk in report.chunks:
                    self.pieces.setdefault(chunk.job_id, []).extend(odds.piece for odds in chunk.logprobs)
            elif isinstance(report, Completed | JobFault):
                assert report.job_id not in self.ended
                self.ended[report.job_id] = report


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "prefix cache"])
def runtime(request: pytest.FixtureRequest, path: Path) -> Iterator[Runtime]:
    loaded = open_runtime("torch")
    loaded.load(msgspec.structs.replace(PLAN, prefix_cache=request.param), str(path))
    yield loaded
    loaded.unload()


@pytest.fixture(scope="module")
def alone(path: Path) -> dict[int, list[bytes]]:
    answers = {}
    for number in range(len(PROMPTS)):
        runtime = open_runtime("torch")
        runtime.load(PLAN, str(path))
        told = Told()
        runtime.add(job("alone", number))
        drain(runtime, told)
        answers[number] = told.pieces[JobId("alone")]
        runtime.unload()
    return answers


def job(name: str, prompt: int, *, allowance: int | None = None) -> Generate:
    sampling = Sampling(max_tokens=TOKENS, top_logprobs=0, ignore_eos=True)
    return Generate(JobId(name), (), sampling, allowance, text=PROMPTS[prompt])


def drain(runtime: Runtime, told: Told) -> None:
    for _ in range(3000):
        if not runtime.can_step:
            return
        told.hear(runtime.step())
    raise AssertionError("the batch never comes to rest")


@FEW
@given(ops=OPS)
def test_no_schedule_changes_a_greedy_answer(
    runtime: Runtime, alone: dict[int, list[bytes]], ops: list[tuple[str, int, int]]
) -> None:
    told = Told()
    asked: dict[JobId, int] = {}
    for number, (what, which, count) in enumerate(ops):
        name = list(asked)[which % len(asked)] if asked else JobId("nobody")
        match what:
            case "add":
                asked[JobId(f"job-{number}")] = which
                runtime.add(job(f"job-{number}", which, allowance=count if count < 8 else None))
            case "step":
                for _ in range(count if runtime.can_step else 0):
                    told.hear(runtime.step())
            case "preempt":
                told.hear(runtime.preempt(name))
            case "resume":
                runtime.resume(name)
            case "cancel":
                told.hear(runtime.cancel(name))
            case _:
                runtime.allow(name, count)
    for name in asked:
        runtime.resume(name)
        runtime.allow(name, TOKENS)
    drain(runtime, told)
    assert set(told.ended) == set(asked) and not runtime.has_jobs
    for name, which in asked.items():
        end, pieces = told.ended[name], told.pieces.get(name, [])
        is_cancelled = isinstance(end, JobFault) and end.kind is FaultKind.CANCELLED
        assert is_cancelled or len(pieces) == TOKENS
        assert pieces == alone[which][: len(pieces)] and end.usage.completion_tokens == len(pieces)
