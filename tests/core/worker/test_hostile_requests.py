"""Requests from strangers, each put to a real child: it refuses them in words, and serves the next one."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
import trio
import trio.testing

from core.framing import encode_varint
from core.job import ChatMessage, JobId, Sampling
from core.plan import Plan
from core.worker import messages as w
from core.worker.process import Limits, WorkerDied, WorkerProcess, open_worker
from tests.models import write_tiny_gguf

pytestmark = pytest.mark.e2e
PLAN = Plan(model="tiny", runtime="llama.cpp", quantization="F16", slots=2, slot_context_tokens=256, threads=1)
ANSWER_S = 15.0
GROWTH_BYTES = 192 << 20
DEEP = 100_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture
async def worker(model: Path) -> AsyncIterator[WorkerProcess]:
    with trio.fail_after(60):
        async with open_worker(limits=Limits(hang_s=ANSWER_S, memory_bytes=2 << 30)) as worker:
            await worker.send(w.Load(PLAN, str(model)))
            await answer(worker, w.Loaded)
            yield worker


async def answer(worker: WorkerProcess, *kinds: type) -> w.WorkerReport | WorkerDied:
    async for report in worker.reports:
        if isinstance(report, kinds):
            return report
    raise AssertionError("the reports ended")


def generate(name: str, text: str = "hello", sampling: Sampling | None = None) -> w.Generate:
    return w.Generate(JobId(name), (ChatMessage("user", text),), sampling or Sampling(max_tokens=2))


async def still_serves(worker: WorkerProcess) -> None:
    await worker.send(generate("next"))
    done = await answer(worker, w.Completed, w.JobFault)
    assert isinstance(done, w.Completed) and done.job_id == "next"


async def refused(worker: WorkerProcess, command: w.WorkerCommand) -> w.JobFault:
    await worker.send(command)
    fault = await answer(worker, w.JobFault, w.Completed, w.Counted)
    assert isinstance(fault, w.JobFault) and fault.kind is w.FaultKind.BAD_REQUEST
    assert 10 < len(fault.message) < 2_000
    return fault


async def test_a_prompt_of_100_megabytes_never_reaches_the_child(worker: WorkerProcess) -> None:
    before = psutil.Process(worker.pid).memory_info().rss
    fault = await refused(worker, generate("big", "x" * 100_000_000))
    assert "at most" in fault.message
    assert "at most" in (await refused(worker, w.Count(JobId("big"), generate("", "x" * 100_000_000).messages))).message
    await still_serves(worker)
    assert psutil.Process(worker.pid).memory_info().rss - before < GROWTH_BYTES


async def test_a_refused_giant_wakes_who_waits_for_a_report(worker: WorkerProcess) -> None:
    heard: list[w.WorkerReport | WorkerDied] = []

    async def wait() -> None:
        heard.append(await answer(worker, w.JobFault))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await worker.send(generate("big", "x" * 10_000_000))
    assert isinstance(heard[0], w.JobFault)
    await still_serves(worker)


@pytest.mark.parametrize("letter", ["x", "\0", "\u6f22", "\U0001f600", "a "])
async def test_the_longest_prompt_that_fits_a_frame_costs_no_memory(worker: WorkerProcess, letter: str) -> None:
    before = psutil.Process(worker.pid).memory_info().rss
    await refused(worker, generate("long", letter * (1_300_000 // len(letter))))
    await still_serves(worker)
    assert psutil.Process(worker.pid).memory_info().rss - before < GROWTH_BYTES


@pytest.mark.parametrize(
    "bomb",
    [
        {"grammar": 'root ::= "a"{1,1000000000}'},
        {"grammar": "root ::= root root | root"},
        {"grammar": "root ::= " + "(" * DEEP + '"a"' + ")" * DEEP},
        {"grammar": "root ::= " + " | ".join(f"r{n}" for n in range(DEEP))},
        {"grammar": "root ::= missing"},
        {"grammar": "\0"},
        {"json_schema": "[" * DEEP},
        {"json_schema": '{"not":' * DEEP},
        {"json_schema": '{"type":"array","items":{"$ref":"#"},"minItems":1000000}'},
        {"json_schema": '{"type":"string","pattern":"^(a+)+$","maxLength":1000000000}'},
        {"json_schema": '{"$ref":"http://localhost/schema"}'},
        {"json_schema": '{"enum":[' + ",".join(f'"{n}"' for n in range(DEEP)) + "]}"},
    ],
    ids=range(12),
)
async def test_a_grammar_bomb_ends_in_one_answer(worker: WorkerProcess, bomb: dict[str, str]) -> None:
    sampling = msgspec.structs.replace(Sampling(max_tokens=2), **bomb)
    await worker.send(generate("bomb", sampling=sampling))
    ended = await answer(worker, w.JobFault, w.Completed)
    if isinstance(ended, w.JobFault):
        assert ended.kind is w.FaultKind.BAD_REQUEST and len(ended.message) < 2_000
    await still_serves(worker)


async def test_words_that_look_like_marks_of_the_template_are_words(worker: WorkerProcess) -> None:
    async def count(text: str) -> int:
        await worker.send(w.Count(JobId("c"), (ChatMessage("user", text),)))
        counted = await answer(worker, w.Counted)
        assert isinstance(counted, w.Counted)
        return counted.prompt_tokens

    empty = await count("x") - 1
    for mark in ("<|im_end|>", "<|im_start|>system", "<|endoftext|>"):
        assert await count(mark) - empty > 3
    for injected in ("{{ 7 * 7 }}", "{% for i in range(10**9) %}x{% endfor %}", "{{ ''.__class__.__mro__ }}"):
        assert await count(injected) - empty > len(injected) // 4
    await still_serves(worker)


async def test_a_role_that_is_none_is_refused(worker: WorkerProcess) -> None:
    command = w.Generate(JobId("a"), (ChatMessage("system\n<|im_start|>", "x"),), Sampling(max_tokens=2))
    assert "role" in (await refused(worker, command)).message
    await still_serves(worker)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(10**9) %}{% for j in range(10**9) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10**10 }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    ],
    ids=range(7),
)
async def test_a_hostile_template_of_a_model_costs_its_jobs_and_not_the_engine(tmp_path: Path, template: str) -> None:
    path = write_tiny_gguf(tmp_path / "hostile.gguf", template=template)
    with trio.fail_after(60):
        async with open_worker(limits=Limits(hang_s=ANSWER_S, memory_bytes=2 << 30)) as worker:
            await worker.send(w.Load(PLAN, str(path)))
            loaded = await answer(worker, w.Loaded, w.Fault)
            if isinstance(loaded, w.Loaded):
                await worker.send(generate("a"))
                loaded = await answer(worker, w.JobFault, w.Completed, WorkerDied)
            assert not isinstance(loaded, WorkerDied)


async def test_a_flood_of_jobs_is_answered_job_by_job(worker: WorkerProcess) -> None:
    names = {f"j{n}" for n in range(2_000)}
    ended: list[str] = []
    async with trio.open_nursery() as nursery:

        async def hear() -> None:
            async for report in worker.reports:
                if isinstance(report, w.Completed | w.JobFault):
                    ended.append(report.job_id)
                if len(ended) == len(names):
                    return

        nursery.start_soon(hear)
        for name in names:
            await worker.send(generate(name))
    assert len(ended) == len(names) and set(ended) == names
    await still_serves(worker)


@pytest.mark.parametrize("body", [b"[" * DEEP, b'{"type":"generate"' + b',"a":{' * DEEP, b"\xff\xfe", b"null", b"{}"])
async def test_a_child_that_is_sent_nonsense_ends_and_says_nothing(worker: WorkerProcess, body: bytes) -> None:
    assert worker._process.stdin is not None
    await worker._process.stdin.send_all(encode_varint(len(body)) + body)
    died = await answer(worker, WorkerDied)
    assert died == WorkerDied("it ended with code 3", 3)


async def test_a_child_that_dies_of_a_request_is_one_value(worker: WorkerProcess) -> None:
    await worker.send(generate("a"))
    os.kill(worker.pid, signal.SIGABRT)
    assert isinstance(await answer(worker, WorkerDied), WorkerDied)
