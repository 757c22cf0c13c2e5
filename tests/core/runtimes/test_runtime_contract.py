"""The laws of the Runtime Protocol, the same for every runtime that there is: each method, on a tiny random model.

Both compute in F32, where company never changes a token. What answers obey is in test_runtime_answers.py.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from core.job import ChatMessage, FinishReason, JobId, Sampling, Usage
from core.runtimes.runtime import Runtime, RuntimeFault, open_runtime
from core.worker.messages import Completed, Count, Embed, FaultKind, Generate, JobFault, Preempted, Started
from tests.trials import FIRST, PLAN, Heard, drain, job, load, run


def test_load_says_what_it_took_and_where(name: str, path: Path) -> None:
    fractions: list[float] = []
    runtime = open_runtime(name, fractions.append)
    told = runtime.load(msgspec.structs.replace(PLAN, runtime=name), str(path))
    runtime.unload()
    assert told.context_tokens == PLAN.slot_context_tokens and told.description and told.load_s > 0
    assert told.memory_bytes == sum(told.device_bytes.values()) > 2_000_000
    assert fractions and all(0 <= fraction <= 1 for fraction in fractions)


def test_a_broken_file_is_one_fault_and_the_runtime_can_load_again(name: str, path: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(RuntimeFault) as refused:
        load(name, broken)
    assert refused.value.kind is FaultKind.BAD_FILE
    with pytest.raises(RuntimeFault) as missing:
        load(name, tmp_path / "nothing.gguf")
    assert missing.value.kind is FaultKind.BAD_FILE
    runtime = load(name, path)
    assert run(runtime, job(1)).texts[FIRST]
    runtime.unload()


def test_without_a_model_everything_is_refused(name: str) -> None:
    runtime = open_runtime(name)
    for ask in (
        lambda: runtime.add(job(1)),
        lambda: runtime.count(Count(FIRST, (), "x")),
        lambda: runtime.embed(Embed(FIRST, ("x",))),
    ):
        with pytest.raises(RuntimeFault, match="No model is loaded"):
            ask()
    assert not runtime.has_jobs and not runtime.can_step


def test_count_is_what_a_job_then_reads(runtime: Runtime) -> None:
    heard = run(runtime, job(2))
    [started] = [r for r in heard.others if isinstance(r, Started)]
    assert runtime.count(Count(FIRST, job(2).messages)) == started.prompt_tokens
    assert heard.done[JobId("job-2")].usage == Usage(started.prompt_tokens, 24)
    assert runtime.count(Count(FIRST, (), "the")) < runtime.count(Count(FIRST, (ChatMessage("user", "the"),)))


def test_embeddings_are_unit_vectors_that_depend_on_their_text_alone(runtime: Runtime) -> None:
    texts = ("the one", "another text", "the one")
    told = runtime.embed(Embed(FIRST, texts))
    alone = runtime.embed(Embed(FIRST, texts[1:2]))
    assert told.prompt_tokens == sum(runtime.count(Count(FIRST, (), text)) for text in texts)
    assert [sum(x * x for x in vector) for vector in told.vectors] == pytest.approx([1, 1, 1], abs=1e-5)
    assert told.vectors[0] == pytest.approx(told.vectors[2], abs=1e-5)
    assert told.vectors[1] == pytest.approx(alone.vectors[0], abs=1e-5)
    assert told.vectors[0] != pytest.approx(told.vectors[1], abs=0.1)


def test_what_can_never_run_is_refused_when_it_is_added(runtime: Runtime) -> None:
    runtime.add(job(0))
    impossible = (
        job(0),
        Generate(FIRST, (ChatMessage("user", "x" * 400),), Sampling()),
        Generate(FIRST, (), Sampling()),
        job(1, sampling=Sampling(temperature=float("nan"))),
        job(1, sampling=Sampling(logit_bias=((100_000, 1.0),))),
        job(1, sampling=Sampling(grammar="root ::= (")),
    )
    for one in impossible:
        with pytest.raises(RuntimeFault) as refused:
            runtime.add(one)
        assert refused.value.kind is FaultKind.BAD_REQUEST
    assert set(drain(runtime, Heard()).done) == {JobId("job-0")}
    for ask in (lambda: runtime.embed(Embed(FIRST, ())), lambda: runtime.count(Count(FIRST, ()))):
        with pytest.raises(RuntimeFault):
            ask()


def test_batched_greedy_equals_alone_and_every_job_ends_once(runtime: Runtime) -> None:
    together = run(runtime, *(job(n) for n in range(7)))
    alone: dict[JobId, str] = {}
    for n in range(7):
        alone |= run(runtime, job(n)).texts
    assert together.texts == alone and len(set(alone.values())) > 3
    ends = [r.job_id for r in together.others if isinstance(r, Completed)]
    starts = [r.job_id for r in together.others if isinstance(r, Started)]
    assert sorted(ends) == sorted(starts) == sorted(alone)


def test_joining_and_leaving_at_any_step_changes_no_neighbour(runtime: Runtime) -> None:
    alone = run(runtime, job(1)).texts[FIRST]
    heard = Heard()
    runtime.add(job(0))
    runtime.add(job(1))
    for number in range(2, 6):
        heard.hear(runtime.step())
        heard.hear(runtime.step())
        runtime.add(job(number))
        heard.hear(runtime.cancel(JobId(f"job-{number - 2}")) if number != 3 else [])
    assert drain(runtime, heard).texts[FIRST] == alone


def test_a_paused_job_goes_on_with_the_same_text_and_says_when_it_stops(runtime: Runtime) -> None:
    whole = run(runtime, job(3)).texts[JobId("job-3")]
    heard = run(runtime, job(3, allowance=5), job(4))
    assert runtime.has_jobs and not runtime.can_step
    assert set(heard.done) == {JobId("job-4")}
    runtime.allow(JobId("job-3"), 9)
    runtime.allow(JobId("job-3"), 2)
    runtime.allow(JobId("nobody"), 2)
    drain(runtime, heard)
    assert runtime.has_jobs and len(heard.texts[JobId("job-3")]) < len(whole)
    runtime.allow(JobId("job-3"), 500)
    assert drain(runtime, heard).texts[JobId("job-3")] == whole


def test_with_nothing_allowed_the_prompt_waits_and_nothing_is_billed(runtime: Runtime) -> None:
    heard = run(runtime, job(5, allowance=0))
    assert heard.texts == {} and [type(r) for r in heard.others] == [Started]
    [fault] = runtime.cancel(JobId("job-5"))
    assert isinstance(fault, JobFault) and fault.usage.completion_tokens == 0


def test_cancel_ends_a_job_once_wherever_it_is(runtime: Runtime) -> None:
    for number in range(5):
        runtime.add(job(number))
    heard = Heard()
    for _ in range(4):
        heard.hear(runtime.step())
    for number in (0, 4):
        [fault] = runtime.cancel(JobId(f"job-{number}"))
        assert isinstance(fault, JobFault) and fault.kind is FaultKind.CANCELLED
        assert runtime.cancel(JobId(f"job-{number}")) == []
    assert set(drain(runtime, heard).done) == {JobId(f"job-{n}") for n in (1, 2, 3)}


def test_a_preempted_job_goes_on_with_the_same_text(runtime: Runtime) -> None:
    whole = run(runtime, job(2)).texts[JobId("job-2")]
    heard = Heard()
    runtime.add(job(2))
    for _ in range(8):
        heard.hear(runtime.step())
    [told] = runtime.preempt(JobId("job-2"))
    assert isinstance(told, Preempted) and told.usage.completion_tokens > 0
    assert runtime.preempt(JobId("job-2")) == [] == runtime.preempt(JobId("nobody"))
    assert runtime.has_jobs and not runtime.can_step
    for number in (3, 4, 5, 6):
        runtime.add(job(number))
    for _ in range(3):
        heard.hear(runtime.step())
    runtime.resume(JobId("job-2"))
    runtime.resume(JobId("nobody"))
    drain(runtime, heard)
    assert heard.texts[JobId("job-2")] == whole and len(heard.done) == 5
    assert runtime.preempt(JobId("job-2")) == []


def test_a_prefix_is_read_once_for_its_scope_and_for_no_other(name: str, path: Path) -> None:
    runtime = load(name, path, prefix_cache=True)
    system = ChatMessage("system", "you are the one who answers in the way of the ancients")
    cached = []
    texts = []
    for number, scope in enumerate(("a", "a", "b")):
        asked = (system, ChatMessage("user", "who"))
        heard = run(runtime, Generate(JobId(f"{number}"), asked, Sampling(max_tokens=16), cache_scope=scope))
        cached.append(heard.done[JobId(f"{number}")].timing.cached_tokens)
        texts.append(heard.texts[JobId(f"{number}")])
    runtime.unload()
    assert cached[0] == cached[2] == 0 < 16 <= cached[1]
    assert texts[0] == texts[1] == texts[2]


def test_stats_are_the_sums_of_what_was_billed(loaded: Runtime) -> None:
    before = loaded.stats
    heard = run(loaded, *(job(n) for n in range(4)))
    after = loaded.stats
    usages = [done.usage for done in heard.done.values()]
    assert after.prompt_tokens - before.prompt_tokens == sum(u.prompt_tokens for u in usages)
    assert after.completion_tokens - before.completion_tokens == sum(u.completion_tokens for u in usages)
    assert after.steps > before.steps and after.step_s >= after.decode_s > before.decode_s


def test_every_job_is_timed(runtime: Runtime) -> None:
    heard = run(runtime, job(0), job(1))
    for done in heard.done.values():
        assert 0 < done.timing.prefill_s <= done.timing.ttft_s and done.timing.decode_s > 0
        assert 1 < done.timing.batch <= 2


def test_a_full_context_ends_a_job_by_length(runtime: Runtime) -> None:
    messages = (ChatMessage("user", "x" * 120),)
    room = PLAN.slot_context_tokens - runtime.count(Count(FIRST, messages))
    heard = run(runtime, Generate(FIRST, messages, Sampling(max_tokens=10_000, ignore_eos=True)))
    assert heard.done[FIRST].reason is FinishReason.LENGTH
    assert heard.done[FIRST].usage.completion_tokens == room


@pytest.mark.parametrize("chunk", [0, 1, 7])
def test_the_chunk_of_a_prompt_changes_no_answer(name: str, loaded: Runtime, path: Path, chunk: int) -> None:
    expected = run(loaded, *(job(n) for n in range(3))).texts
    runtime = load(name, path, prefill_chunk=chunk)
    assert run(runtime, *(job(n) for n in range(3))).texts == expected
    runtime.unload()
