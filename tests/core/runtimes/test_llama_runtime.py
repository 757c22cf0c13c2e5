"""Laws of the llama.cpp runtime, on a tiny random model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from core.job import ChatMessage, FinishReason, JobId, Sampling
from core.plan import Plan
from core.runtimes.llama_runtime import LlamaRuntime
from core.runtimes.runtime import RuntimeFault, open_runtime
from core.worker.messages import Chunks, Completed, Count, FaultKind, Generate, JobFault, Started, WorkerReport
from tests.models import write_tiny_gguf

PLAN = Plan(
    model="tiny", runtime="llama.cpp", quantization="F16", slots=4, slot_context_tokens=160, threads=1, prefill_chunk=24
)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaRuntime]:
    path = write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")
    runtime = LlamaRuntime()
    runtime.load(PLAN, str(path))
    yield runtime
    runtime.unload()


def _job(number: int, *, allowance: int | None = None, sampling: Sampling | None = None) -> Generate:
    words = f"hello the world {number} " * (1 + number % 3)
    sampling = sampling or Sampling(max_tokens=32)
    return Generate(JobId(f"job-{number}"), (ChatMessage("user", words),), sampling, allowance)


def _run(runtime: LlamaRuntime, *jobs: Generate) -> tuple[dict[JobId, str], list[WorkerReport]]:
    for job in jobs:
        runtime.add(job)
    return _drain(runtime)


def _drain(runtime: LlamaRuntime) -> tuple[dict[JobId, str], list[WorkerReport]]:
    texts: dict[JobId, str] = {}
    others: list[WorkerReport] = []
    while runtime.can_step:
        for report in runtime.step():
            if isinstance(report, Chunks):
                for chunk in report.chunks:
                    texts[chunk.job_id] = texts.get(chunk.job_id, "") + chunk.text
            else:
                others.append(report)
    return texts, others


def test_batched_greedy_equals_alone(runtime: LlamaRuntime) -> None:
    together, _ = _run(runtime, *(_job(n) for n in range(9)))
    alone: dict[JobId, str] = {}
    for n in range(9):
        alone |= _run(runtime, _job(n))[0]
    assert together == alone
    assert len(set(alone.values())) > 3


def test_the_same_seed_draws_the_same_text_in_any_company(runtime: LlamaRuntime) -> None:
    warm = Sampling(max_tokens=24, temperature=1.0, seed=11)
    alone, _ = _run(runtime, _job(1, sampling=warm))
    together, _ = _run(runtime, _job(0), _job(1, sampling=warm), _job(2))
    other, _ = _run(runtime, _job(1, sampling=Sampling(max_tokens=24, temperature=1.0, seed=12)))
    assert together[JobId("job-1")] == alone[JobId("job-1")] != other[JobId("job-1")]


def test_a_paused_job_keeps_its_slot_and_resumes_with_the_same_text(runtime: LlamaRuntime) -> None:
    whole, _ = _run(runtime, _job(3))
    first, reports = _run(runtime, _job(3, allowance=5), _job(4))
    assert runtime.has_jobs and not runtime.can_step
    assert [r.job_id for r in reports if isinstance(r, Completed)] == [JobId("job-4")]
    runtime.allow(JobId("job-3"), 9)
    second, _ = _drain(runtime)
    runtime.allow(JobId("job-3"), 500)
    third, _ = _drain(runtime)
    parts = [part.get(JobId("job-3"), "") for part in (first, second, third)]
    assert "".join(parts) == whole[JobId("job-3")]
    assert not runtime.has_jobs


def test_what_a_job_waits_for_its_money_is_no_work(runtime: LlamaRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    real, waited = time.perf_counter, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: real() + sum(waited))
    _run(runtime, _job(3, allowance=5))
    waited.append(1000.0)
    runtime.allow(JobId("job-3"), 5)
    waited.append(1000.0)
    runtime.allow(JobId("job-3"), 500)
    _, reports = _drain(runtime)
    (done,) = [report for report in reports if isinstance(report, Completed)]
    assert 0 < done.timing.decode_s < 100 and done.timing.prefill_s < 100


def test_a_job_that_reaches_its_allowance_says_so_even_without_text(runtime: LlamaRuntime) -> None:
    runtime.add(_job(3, allowance=7))
    told = []
    while runtime.can_step:
        told += [c.completion_tokens for r in runtime.step() if isinstance(r, Chunks) for c in r.chunks]
    runtime.cancel(JobId("job-3"))
    assert told[-1] == 7


def test_with_nothing_allowed_nothing_is_generated(runtime: LlamaRuntime) -> None:
    texts, reports = _run(runtime, _job(5, allowance=0))
    assert texts == {} and [type(r) for r in reports] == [Started]
    [fault] = runtime.cancel(JobId("job-5"))
    assert isinstance(fault, JobFault) and fault.usage.completion_tokens == 0


def test_cancel_ends_a_job_before_the_next_step_and_spares_its_neighbours(runtime: LlamaRuntime) -> None:
    alone, _ = _run(runtime, _job(1))
    runtime.add(_job(0))
    runtime.add(_job(1))
    texts: dict[JobId, str] = {}
    for _ in range(4):
        for report in runtime.step():
            for chunk in report.chunks if isinstance(report, Chunks) else ():
                texts[chunk.job_id] = texts.get(chunk.job_id, "") + chunk.text
    [fault] = runtime.cancel(JobId("job-0"))
    assert isinstance(fault, JobFault) and fault.kind is FaultKind.CANCELLED and fault.usage.completion_tokens > 0
    assert runtime.cancel(JobId("job-0")) == []
    rest, reports = _drain(runtime)
    assert JobId("job-0") not in rest
    assert texts.get(JobId("job-1"), "") + rest.get(JobId("job-1"), "") == alone[JobId("job-1")]


def test_a_full_context_ends_a_job_by_length(runtime: LlamaRuntime) -> None:
    messages = (ChatMessage("user", "x" * 120),)
    room = PLAN.slot_context_tokens - runtime.count(Count(JobId("c"), messages))
    ends = set()
    for seed in range(12):
        sampling = Sampling(max_tokens=10_000, temperature=1.5, min_p=0, top_p=1, top_k=0, seed=seed)
        _, reports = _run(runtime, Generate(JobId("long"), messages, sampling))
        ends |= {(r.reason, r.usage.completion_tokens) for r in reports if isinstance(r, Completed)}
    assert (FinishReason.LENGTH, room) in ends
    assert all(tokens <= room for _, tokens in ends)


def test_a_prompt_that_can_never_fit_is_a_bad_request(runtime: LlamaRuntime) -> None:
    with pytest.raises(RuntimeFault, match="reads 1 to 159") as refused:
        runtime.add(Generate(JobId("big"), (ChatMessage("user", "x" * 400),), Sampling()))
    assert refused.value.kind is FaultKind.BAD_REQUEST
    assert not runtime.has_jobs


def test_a_stop_string_ends_the_text_before_itself(runtime: LlamaRuntime) -> None:
    whole = _run(runtime, _job(3))[0][JobId("job-3")]
    stop = whole[6:9]
    texts, reports = _run(runtime, _job(3, sampling=Sampling(max_tokens=32, stop=(stop,))))
    [done] = [r for r in reports if isinstance(r, Completed)]
    assert texts[JobId("job-3")] == whole.partition(stop)[0]
    assert done.reason is FinishReason.STOP


def test_unified_and_split_kv_give_the_same_greedy_text(runtime: LlamaRuntime, tmp_path: Path) -> None:
    split, _ = _run(runtime, *(_job(n) for n in range(4)))
    other = LlamaRuntime()
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    other.load(msgspec.structs.replace(PLAN, unified_kv=True), str(path))
    unified, _ = _run(other, *(_job(n) for n in range(4)))
    other.unload()
    assert split == unified


def test_a_truncated_file_is_one_bad_file_fault(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(RuntimeFault) as refused:
        LlamaRuntime().load(PLAN, str(path))
    assert refused.value.kind is FaultKind.BAD_FILE


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(RuntimeFault, match="no runtime called"):
        open_runtime("abacus")
