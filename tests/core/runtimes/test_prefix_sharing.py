"""Laws of reading shared beginnings once, and of giving a slot up and getting it back, on a tiny random model."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from core.job import JobId, Sampling, Timing
from core.plan import Plan
from core.runtimes.llama_context import KvFull, LlamaContext, StepAborted
from core.runtimes.llama_runtime import LlamaRuntime
from core.runtimes.runtime import OutOfMemory, RuntimeFault
from core.worker.messages import (
    Chunks,
    Completed,
    Count,
    FaultKind,
    Generate,
    JobFault,
    Preempted,
    Started,
    WorkerReport,
)
from tests.models import write_tiny_gguf

PLAN = Plan(
    model="tiny",
    runtime="llama.cpp",
    quantization="F16",
    slots=4,
    slot_context_tokens=256,
    prefill_chunk=32,
    prefix_cache=True,
    steady=True,
)
SYSTEM = "You know everything that there is to know about the world, and say so in a few words. "


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(params=[True, False], ids=["split", "unified"])
def runtime(request: pytest.FixtureRequest, path: Path) -> Iterator[LlamaRuntime]:
    runtime = LlamaRuntime()
    split = request.param
    runtime.load(msgspec.structs.replace(PLAN, steady=split, unified_kv=not split), str(path))
    yield runtime
    runtime.unload()


def ask(name: str, text: str, *, scope: str = "", tokens: int = 8, sampling: Sampling | None = None) -> Generate:
    sampling = sampling or Sampling(max_tokens=tokens, ignore_eos=True)
    return Generate(JobId(name), (), sampling, None, text=text, cache_scope=scope)


class Heard:
    """Texts, timings and usages by job."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.timings: dict[str, Timing] = {}
        self.faults: dict[str, JobFault] = {}
        self.reports: list[WorkerReport] = []

    def hear(self, reports: list[WorkerReport]) -> Heard:
        self.reports += reports
        for report in reports:
            match report:
                case Chunks():
                    for chunk in report.chunks:
                        self.texts[chunk.job_id] = self.texts.get(chunk.job_id, "") + chunk.text
                case Completed():
                    self.timings[report.job_id] = report.timing
                case JobFault():
                    self.faults[report.job_id] = report
                case _:
                    pass
        return self


def run(runtime: LlamaRuntime, *jobs: Generate) -> Heard:
    for job in jobs:
        runtime.add(job)
    return finish(runtime, Heard())


def finish(runtime: LlamaRuntime, heard: Heard, *, steps: int = 2000) -> Heard:
    for _ in range(steps):
        if not runtime.can_step:
            break
        heard.hear(runtime.step())
    return heard


def test_a_beginning_that_was_read_is_not_read_again(runtime: LlamaRuntime) -> None:
    first = run(runtime, ask("a", SYSTEM + "Who?"))
    second = run(runtime, ask("b", SYSTEM + "What?"))
    assert first.timings["a"].cached_tokens == 0
    assert second.timings["b"].cached_tokens >= runtime.count(Count(JobId("c"), (), SYSTEM)) - 1
    stats = runtime.stats
    assert stats.cached_tokens == second.timings["b"].cached_tokens
    done = [r for r in (*first.reports, *second.reports) if isinstance(r, Completed)]
    assert stats.prompt_tokens == sum(report.usage.prompt_tokens for report in done)
    assert stats.completion_tokens == sum(report.usage.completion_tokens for report in done)
    assert 0 < stats.decode_s < stats.step_s


def test_another_scope_reads_for_itself(runtime: LlamaRuntime) -> None:
    run(runtime, ask("a", SYSTEM, scope="one"))
    assert run(runtime, ask("b", SYSTEM, scope="two")).timings["b"].cached_tokens == 0
    assert run(runtime, ask("c", SYSTEM, scope="one")).timings["c"].cached_tokens > 0


def test_the_next_turn_of_a_chat_goes_on_from_the_answer_before(runtime: LlamaRuntime) -> None:
    ascii_only = Sampling(max_tokens=12, logit_bias=tuple((token, -100.0) for token in range(94, 256)))
    answer = run(runtime, ask("a", SYSTEM, sampling=ascii_only)).texts["a"]
    before = runtime.count(Count(JobId("c"), (), SYSTEM + answer))
    assert run(runtime, ask("b", SYSTEM + answer + " And then?")).timings["b"].cached_tokens >= before - 4


def test_those_who_come_together_with_the_same_beginning_read_it_once(runtime: LlamaRuntime) -> None:
    jobs = [ask(str(n), f"{SYSTEM}{n} is my number") for n in range(4)]
    heard = run(runtime, *jobs)
    shared = runtime.count(Count(JobId("c"), (), SYSTEM))
    assert heard.timings["0"].cached_tokens == 0
    assert all(heard.timings[str(n)].cached_tokens >= shared - 1 for n in (1, 2, 3))
    alone = [run(runtime, job).texts[job.job_id] for job in jobs]
    assert [heard.texts[job.job_id] for job in jobs] == alone


def test_those_who_wait_for_a_reader_read_for_themselves_when_he_is_cancelled(runtime: LlamaRuntime) -> None:
    for name in "ab":
        runtime.add(ask(name, SYSTEM + name))
    heard = Heard().hear(runtime.step())
    assert [type(r) for r in heard.reports] == [Started, Started]
    heard.hear(runtime.cancel(JobId("a")))
    finish(runtime, heard)
    assert set(heard.timings) == {"b"} and set(heard.faults) == {"a"}


def test_a_preempted_job_frees_its_slot_and_goes_on_as_if_nothing_had_been(runtime: LlamaRuntime) -> None:
    warm = Sampling(max_tokens=20, temperature=1.2, seed=3, repeat_penalty=1.3, stop=("zzz",))
    alone = run(runtime, ask("a", SYSTEM, sampling=warm)).texts["a"]
    others = [ask(f"other-{n}", f"{n} other words", tokens=30) for n in range(4)]
    runtime.add(ask("a", SYSTEM, sampling=warm))
    heard = finish(runtime, Heard(), steps=6)
    [preempted] = runtime.preempt(JobId("a"))
    assert isinstance(preempted, Preempted)
    assert preempted.usage.completion_tokens > 0
    assert preempted.usage.prompt_tokens == runtime.count(Count(JobId("c"), (), SYSTEM))
    assert runtime.preempt(JobId("a")) == []
    for job in others:
        runtime.add(job)
    finish(runtime, heard, steps=20)
    runtime.add(ask("late", "late words"))
    runtime.resume(JobId("a"))
    finish(runtime, heard)
    assert heard.texts["a"] == alone
    done = [r.job_id for r in heard.reports if isinstance(r, Completed)]
    assert set(done) == {"a", "late", *(job.job_id for job in others)}


def test_the_time_without_a_slot_is_no_work(runtime: LlamaRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    runtime.add(ask("a", SYSTEM, tokens=30))
    heard = finish(runtime, Heard(), steps=8)
    runtime.preempt(JobId("a"))
    for _ in range(100_000):
        next(clock)
    runtime.resume(JobId("a"))
    finish(runtime, heard)
    assert heard.timings["a"].decode_s < 10_000


def test_a_preempted_job_can_be_cancelled_and_its_usage_is_what_it_had(runtime: LlamaRuntime) -> None:
    runtime.add(ask("a", SYSTEM, tokens=30))
    finish(runtime, Heard(), steps=8)
    [preempted] = runtime.preempt(JobId("a"))
    assert isinstance(preempted, Preempted)
    assert not runtime.can_step and runtime.has_jobs
    [fault] = runtime.cancel(JobId("a"))
    assert isinstance(fault, JobFault) and fault.usage == preempted.usage
    assert not runtime.has_jobs
    assert run(runtime, ask("b", SYSTEM)).timings["b"].cached_tokens > 0


def test_a_saved_job_comes_back_from_host_memory(path: Path) -> None:
    runtime = LlamaRuntime()
    runtime.load(msgspec.structs.replace(PLAN, slots=1, prefix_cache=False), str(path))
    alone = run(runtime, ask("a", SYSTEM, tokens=30)).texts["a"]
    runtime.add(ask("a", SYSTEM, tokens=30))
    heard = finish(runtime, Heard(), steps=10)
    runtime.preempt(JobId("a"))
    runtime._batch.slots.cache.costs.read_s_per_token = 1.0
    run(runtime, ask("b", "something else"))
    assert runtime._store is not None and len(runtime._store._saved) == 1
    read = runtime.stats.decode_s
    runtime.resume(JobId("a"))
    finish(runtime, heard)
    assert heard.texts["a"] == alone
    assert len(runtime._store._saved) == 0 and runtime.stats.decode_s > read
    runtime.unload()


@pytest.mark.parametrize("what", ["save", "load"])
def test_kv_that_cannot_be_copied_is_read_again(path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    runtime = LlamaRuntime()
    runtime.load(PLAN, str(path))
    jobs = [ask(name, SYSTEM + name * 20, tokens=12) for name in "abc"]
    alone = {job.job_id: run(runtime, job).texts[job.job_id] for job in jobs}
    if what == "save":
        monkeypatch.setattr(LlamaContext, "save", lambda context, slot, into: 0)
    else:
        monkeypatch.setattr(LlamaContext, "load", lambda context, slot, state: context.forget(slot) or False)
    heard = run(runtime, *jobs)
    assert heard.texts == alone and not heard.faults
    runtime.unload()


class Failing:
    """Lets the context's next steps fail in turn, then work again."""

    def __init__(self, *faults: RuntimeFault) -> None:
        self.faults = list(faults)
        self.decode = LlamaContext.decode

    def __call__(self, context: LlamaContext) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.decode(context)


def test_a_full_kv_costs_kept_prefixes_before_any_job(runtime: LlamaRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    run(runtime, ask("a", SYSTEM), ask("b", "other words, and more of them"))
    assert len(runtime._batch.slots.cache) == 2
    failing = Failing(KvFull("full"), KvFull("full"))
    runtime.add(ask("c", "wholly unlike everything before"))
    monkeypatch.setattr(LlamaContext, "decode", lambda context: failing(context))
    heard = finish(runtime, Heard())
    assert set(heard.timings) == {"c"} and not heard.faults and not failing.faults
    assert sum(kept.slot is not None for kept in runtime._batch.slots.cache) == 1


def test_memory_that_is_short_costs_the_youngest_job_only(
    runtime: LlamaRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [ask(name, name * 20, tokens=16) for name in "abc"]
    alone = {job.job_id: run(runtime, job).texts[job.job_id] for job in jobs}
    for job in jobs:
        runtime.add(job)
    heard = finish(runtime, Heard(), steps=5)
    failing = Failing(OutOfMemory("none left"))
    monkeypatch.setattr(LlamaContext, "decode", lambda context: failing(context))
    finish(runtime, heard)
    assert list(heard.faults) == ["c"] and heard.faults["c"].kind is FaultKind.OUT_OF_MEMORY
    assert {name: heard.texts[name] for name in "ab"} == {name: alone[JobId(name)] for name in "ab"}


def test_an_aborted_step_is_made_up_for(runtime: LlamaRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    job = ask("a", SYSTEM, tokens=16)
    alone = run(runtime, job).texts["a"]
    runtime.add(job)
    failing = Failing(StepAborted(FaultKind.INTERNAL, "aborted"))
    monkeypatch.setattr(LlamaContext, "decode", lambda context: failing(context))
    heard = finish(runtime, Heard(), steps=6)
    failing.faults.append(StepAborted(FaultKind.INTERNAL, "aborted"))
    assert finish(runtime, heard).texts["a"] == alone and not heard.faults


def test_a_broken_step_ends_those_in_it_and_the_next_jobs_are_served(
    runtime: LlamaRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run(runtime, ask("a", SYSTEM)).texts["a"]
    runtime.add(ask("a", SYSTEM))
    runtime.add(ask("b", "other words"))
    failing = Failing(RuntimeFault(FaultKind.INTERNAL, "broken"))
    monkeypatch.setattr(LlamaContext, "decode", lambda context: failing(context))
    heard = finish(runtime, Heard())
    assert set(heard.faults) == {"a", "b"} and not runtime.has_jobs
    assert run(runtime, ask("a", SYSTEM)).texts["a"] == alone
