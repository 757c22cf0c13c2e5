"""Laws of a worker child, seen from the engine."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
import trio

from core.device import Device, DeviceKind
from core.explorer import attempt
from core.job import ChatMessage, JobId, Sampling
from core.plan import Plan
from core.worker import messages as w
from core.worker.process import Limits, WorkerDied, WorkerProcess, child_environment, open_worker, run_once
from tests.models import write_tiny_gguf

pytestmark = pytest.mark.e2e
PLAN = Plan(model="tiny", runtime="llama.cpp", quantization="F16", slots=2, slot_context_tokens=256, threads=1)
ENDLESS = Sampling(max_tokens=200, temperature=1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture
async def worker(model: Path, tmp_path: Path) -> AsyncIterator[WorkerProcess]:
    with trio.fail_after(30):
        async with open_worker(log=tmp_path / "worker.log") as worker:
            await worker.send(w.Load(PLAN, str(model)))
            assert isinstance(await _next(worker, w.Loaded), w.Loaded)
            yield worker


async def _next(worker: WorkerProcess, *kinds: type) -> w.WorkerReport | WorkerDied:
    async for report in worker.reports:
        if isinstance(report, kinds):
            return report
    raise AssertionError("the reports ended")


def _job(name: str, *, allowance: int | None = None, sampling: Sampling = ENDLESS) -> w.Generate:
    return w.Generate(JobId(name), (ChatMessage("user", "hello the world"),), sampling, allowance)


async def test_a_job_is_started_streamed_and_completed_once(worker: WorkerProcess) -> None:
    await worker.send(w.Count(JobId("a"), _job("a").messages))
    counted = await _next(worker, w.Counted)
    await worker.send(_job("a", sampling=Sampling(max_tokens=8)))
    started = await _next(worker, w.Started)
    done = await _next(worker, w.Completed)
    assert isinstance(counted, w.Counted) and isinstance(started, w.Started) and isinstance(done, w.Completed)
    assert started.prompt_tokens == counted.prompt_tokens == done.usage.prompt_tokens
    assert 1 <= done.usage.completion_tokens <= 8
    assert done.timing.ttft_s > 0


async def test_a_killed_child_is_one_died_value_and_then_nothing(worker: WorkerProcess) -> None:
    await worker.send(_job("a", allowance=3))
    await _next(worker, w.Chunks)
    os.kill(worker.pid, signal.SIGKILL)
    rest = [report async for report in worker.reports]
    assert [r for r in rest if isinstance(r, WorkerDied)] == [WorkerDied("it was killed by SIGKILL", -9)]
    assert isinstance(rest[-1], WorkerDied)
    await worker.send(_job("b"))


async def test_a_paused_job_waits_with_heartbeats_and_goes_on_when_allowed(worker: WorkerProcess) -> None:
    await worker.send(_job("a", allowance=2))
    await _next(worker, w.Heartbeat)
    await worker.send(w.Allow(JobId("a"), 4))
    chunks = await _next(worker, w.Chunks)
    assert isinstance(chunks, w.Chunks) and chunks.chunks[0].completion_tokens > 2


async def test_cancel_is_answered_by_one_fault(worker: WorkerProcess) -> None:
    await worker.send(_job("a", allowance=3))
    await _next(worker, w.Heartbeat)
    await worker.send(w.Cancel(JobId("a")))
    fault = await _next(worker, w.JobFault)
    assert isinstance(fault, w.JobFault)
    assert (fault.kind, fault.usage.completion_tokens) == (w.FaultKind.CANCELLED, 3)


async def test_a_bad_request_fails_its_job_and_not_the_child(worker: WorkerProcess) -> None:
    await worker.send(w.Generate(JobId("big"), (ChatMessage("user", "x" * 5000),), Sampling()))
    fault = await _next(worker, w.JobFault)
    assert isinstance(fault, w.JobFault) and fault.kind is w.FaultKind.BAD_REQUEST
    await worker.send(_job("a", sampling=Sampling(max_tokens=2)))
    assert isinstance(await _next(worker, w.Completed), w.Completed)


async def test_closing_stdin_ends_the_child(worker: WorkerProcess) -> None:
    await worker.send(_job("a", allowance=3))
    began = trio.current_time()
    await worker.close()
    assert trio.current_time() - began < 2
    assert not _is_alive(worker.pid)


async def test_a_stopped_child_is_a_hang_only_while_it_owes_an_answer(model: Path) -> None:
    with trio.fail_after(30):
        async with open_worker(limits=Limits(hang_s=5.0)) as worker:
            await worker.send(w.Load(PLAN, str(model)))
            await _next(worker, w.Loaded)
            with trio.move_on_after(6) as idle:
                await worker.next_report()
            assert idle.cancelled_caught
            os.kill(worker.pid, signal.SIGSTOP)
            await worker.send(_job("a"))
            died = await _next(worker, WorkerDied)
    assert isinstance(died, WorkerDied) and "said nothing" in died.reason


async def test_a_truncated_file_is_one_fault_and_the_child_lives_on(tmp_path: Path, model: Path) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes(model.read_bytes()[:-4000])
    with trio.fail_after(30):
        async with open_worker() as worker:
            await worker.send(w.Load(PLAN, str(short)))
            fault = await _next(worker, w.Fault)
            assert isinstance(fault, w.Fault) and fault.kind is w.FaultKind.BAD_FILE
            short.write_bytes(model.read_bytes())
            await worker.send(w.Load(PLAN, str(short)))
            await _next(worker, w.Loaded)


async def test_too_large_a_context_is_out_of_memory_under_a_limit(model: Path) -> None:
    plan = msgspec.structs.replace(PLAN, slots=8, slot_context_tokens=1 << 20)
    with trio.fail_after(30):
        async with open_worker(limits=Limits(memory_bytes=1 << 30)) as worker:
            await worker.send(w.Load(plan, str(model)))
            fault = await _next(worker, w.Fault)
    assert isinstance(fault, w.Fault) and fault.kind is w.FaultKind.OUT_OF_MEMORY and fault.free_bytes > 0


async def test_inspecting_reads_the_card(model: Path) -> None:
    report = await run_once(w.Inspect(str(model)), deadline_s=30)
    assert isinstance(report, w.Inspected)
    card = report.card
    assert (card.title, card.architecture, card.layers, card.hidden, card.heads) == ("Tiny random", "llama", 2, 256, 4)
    assert (card.kv_heads, card.kv_width, card.context_tokens) == (2, 256, 512)
    assert (card.source_quantization, card.license) == ("F16", "Apache-2.0")


async def test_quantizing_twice_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    heard: list[float] = []
    targets = [tmp_path / "a.part", tmp_path / "b.part"]
    for target in targets:
        command = w.Quantize(str(model), str(target), "Q8_0", 1)
        report = await run_once(command, deadline_s=30, on_progress=lambda fraction, _: heard.append(fraction))
        assert isinstance(report, w.Quantized) and report.file_bytes == target.stat().st_size
    assert targets[0].read_bytes() == targets[1].read_bytes()
    assert targets[0].stat().st_size < model.stat().st_size
    assert heard


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_full_disk_is_no_space(model: Path) -> None:
    report = await run_once(w.Quantize(str(model), "/dev/full", "Q8_0", 1), deadline_s=30)
    assert isinstance(report, w.Fault) and report.kind is w.FaultKind.NO_SPACE


async def test_the_processor_is_always_a_device() -> None:
    report = await run_once(w.ListDevices(), deadline_s=30)
    assert isinstance(report, w.Devices)
    assert report.devices[-1].kind is DeviceKind.CPU
    assert 0 < report.devices[-1].free_bytes <= report.devices[-1].memory_bytes


async def test_a_quick_benchmark_measures_everything(model: Path) -> None:
    device = Device("CPU", "cpu", DeviceKind.CPU, "CPU", 1, 1)
    command = w.RunBenchmark(str(model), "tiny", "F16", device, 1, quick=True)
    report = await run_once(command, deadline_s=60)
    assert isinstance(report, w.BenchmarkDone)
    b = report.benchmark
    assert set(b.decode_by_batch) == {1, 4, 8}
    assert min(b.memory_bandwidth_gbs, b.matrix_tflops, b.prefill_tokens_per_s, *b.decode_by_batch.values()) > 0


async def test_a_plan_is_tried_with_as_many_sequences_as_it_has_slots_for(model: Path) -> None:
    plan = msgspec.structs.replace(PLAN, slots=4, prefill_chunk=32, draft_tokens=3, steady=True)
    report = await run_once(w.TryPlan(plan, str(model)), deadline_s=60)
    assert isinstance(report, w.PlanTried)
    assert set(report.decode_by_batch) == {1, 4} and min(report.decode_by_batch.values()) > 0
    assert report.prefill_tokens_per_s > 0 and report.plan.slots == 4 and report.plan.draft_tokens == 0


async def test_a_trial_that_does_not_load_is_a_fault(tmp_path: Path) -> None:
    assert isinstance(await attempt(w.TryPlan(PLAN, str(tmp_path / "no.gguf"))), w.Fault)


async def test_a_trial_that_is_cancelled_ends_at_once(model: Path) -> None:
    with trio.move_on_after(0.7) as trial:
        await attempt(w.TryPlan(PLAN, str(model)))
    assert trial.cancelled_caught and trio.current_time() - trial.deadline < 1.0


async def test_a_childs_temporary_folder_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with trio.fail_after(30):
        async with open_worker() as worker:
            await worker.send(w.ListDevices())
            await worker.next_report()
            (folder,) = tmp_path.iterdir()
            (folder / "left behind").write_text("x")
    assert list(tmp_path.iterdir()) == []


async def test_what_holds_of_the_sandbox_is_told_first() -> None:
    with trio.fail_after(30):
        async with open_worker(limits=Limits(memory_bytes=1 << 30)) as worker:
            await worker.send(w.ListDevices())
            assert isinstance(await worker.next_report(), w.Devices)
            assert worker.confined.holds or worker.confined.lacks
            assert worker.confined.sentence.startswith("Confined: ")


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is an extra")
async def test_a_torch_child_serves_from_inside_its_sandbox(model: Path, tmp_path: Path) -> None:
    plan = msgspec.structs.replace(PLAN, runtime="torch")
    with trio.fail_after(180):
        async with open_worker(log=tmp_path / "worker.log", limits=Limits(memory_bytes=8 << 30)) as worker:
            await worker.send(w.Load(plan, str(model)))
            loaded = await _next(worker, w.Loaded, w.Fault)
            assert isinstance(loaded, w.Loaded), (loaded, (tmp_path / "worker.log").read_text()[-2_000:])
            await worker.send(_job("a", sampling=Sampling(max_tokens=4)))
            assert isinstance(await _next(worker, w.Completed, w.JobFault), w.Completed)


async def test_a_missed_deadline_is_a_fault(model: Path) -> None:
    report = await run_once(w.ListDevices(), deadline_s=0.01)
    assert isinstance(report, w.Fault)


def test_a_child_sees_nothing_of_our_secrets() -> None:
    ours = {"PATH": "/bin", "STARLING_TOKEN": "t", "HTTPS_PROXY": "p", "AWS_SECRET_ACCESS_KEY": "k"}
    seen = child_environment(ours, Limits())
    assert seen["PATH"] == "/bin"
    assert not {"STARLING_TOKEN", "HTTPS_PROXY", "AWS_SECRET_ACCESS_KEY"} & set(seen)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
