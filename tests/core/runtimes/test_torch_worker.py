"""torch in a real child, confined as every worker is."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import trio

from core.job import ChatMessage, JobId, Sampling
from core.plan import Plan
from core.worker import messages as w
from core.worker.process import WorkerDied, WorkerProcess, open_worker

DEMO = Path(__file__).parents[3] / "assets" / "demo_model"
LOAD_S = 120.0

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(find_spec("transformers") is None, reason="torch is not installed"),
    pytest.mark.skipif(not (DEMO / "model.safetensors").is_file(), reason="the demo model is not here"),
]


async def _next(worker: WorkerProcess, *kinds: type) -> w.WorkerReport | WorkerDied:
    async for report in worker.reports:
        if isinstance(report, kinds):
            return report
    raise AssertionError("the reports ended")


def plan(context: int) -> Plan:
    return Plan("starling-demo", "torch", "F32", slots=2, slot_context_tokens=context, prefill_chunk=16)


async def test_a_confined_child_runs_out_of_memory_by_name_and_then_serves_through_torch(tmp_path: Path) -> None:
    with trio.fail_after(LOAD_S):
        async with open_worker(log=tmp_path / "worker.log") as worker:
            await worker.send(w.Load(plan(1 << 44), str(DEMO)))
            fault = await _next(worker, w.Fault, w.Loaded)
            assert isinstance(fault, w.Fault) and fault.kind is w.FaultKind.OUT_OF_MEMORY and fault.free_bytes > 0
            await worker.send(w.Load(plan(256), str(DEMO)))
            loaded = await _next(worker, w.Loaded)
            assert isinstance(loaded, w.Loaded) and loaded.memory_bytes > 9_000_000
            asked = (ChatMessage("user", "What is SIGKILL?"),)
            await worker.send(w.Generate(JobId("a"), asked, Sampling(max_tokens=32)))
            texts = ""
            while not isinstance(report := await _next(worker, w.Chunks, w.Completed), w.Completed):
                assert isinstance(report, w.Chunks)
                texts += "".join(chunk.text for chunk in report.chunks)
            assert texts == "SIGKILL is signal 9: Killed."
