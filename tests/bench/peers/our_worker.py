"""Our worker as the engine uses it: a real child, commands and reports in frames over its pipes."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from core.job import ChatMessage, JobId, Sampling, Usage
from core.plan import Plan
from core.worker import messages as w
from core.worker.process import Limits, WorkerDied, WorkerProcess, open_worker
from tests.bench.workload import Run, Setup, Workload, check

NAME = "starling"
# llama-server's --batch-size: as many prompt tokens as it takes into one step.
PREFILL_CHUNK = 2048


class OurWorker:
    """A loaded child. Get one from open_our_worker."""

    def __init__(self, worker: WorkerProcess) -> None:
        self.pid = worker.pid
        self._worker = worker
        self._process = psutil.Process(worker.pid)
        self._numbers = itertools.count()

    async def run(self, workload: Workload) -> Run:
        """Answer all prompts. Raises RuntimeError."""
        cpu_began, began = self._cpu_s(), time.perf_counter()
        sampling = Sampling(max_tokens=workload.answer_tokens, ignore_eos=True)
        for prompt in workload.prompts:
            job_id = JobId(f"bench-{next(self._numbers)}")
            await self._worker.send(w.Generate(job_id, (ChatMessage("user", prompt),), sampling))
        usages, firsts = await self._answers(len(workload.prompts), began)
        wall_s, cpu_s = time.perf_counter() - began, self._cpu_s() - cpu_began
        prompt_tokens = sum(usage.prompt_tokens for usage in usages)
        answer_tokens = sum(usage.completion_tokens for usage in usages)
        return check(Run(prompt_tokens, answer_tokens, wall_s, cpu_s, tuple(firsts)), workload, NAME)

    async def stats(self) -> w.ServingStats:
        """Sums since the load. A job that is not paid for makes an idle child beat, and beats carry them."""
        job_id = JobId(f"bench-{next(self._numbers)}")
        await self._worker.send(w.Generate(job_id, (ChatMessage("user", "a"),), Sampling(max_tokens=2), allowance=0))
        report = await self._next()
        while not isinstance(report, w.Heartbeat):
            report = await self._next()
        stats = report.stats
        await self._worker.send(w.Cancel(job_id))
        while not isinstance(report, w.JobFault):
            report = await self._next()
        return stats

    async def _answers(self, count: int, began: float) -> tuple[list[Usage], list[float]]:
        usages: list[Usage] = []
        first_at: dict[JobId, float] = {}
        while len(usages) < count:
            match await self._next():
                case w.Chunks(chunks=chunks):
                    now = time.perf_counter()
                    for chunk in chunks:
                        first_at.setdefault(chunk.job_id, now - began)
                case w.Completed(usage=usage):
                    usages.append(usage)
                case w.JobFault() | w.Fault() as fault:
                    raise RuntimeError(f"{NAME}: {fault.message}")
        return usages, list(first_at.values())

    async def _next(self) -> w.WorkerReport:
        report = await self._worker.next_report()
        if isinstance(report, WorkerDied):
            raise RuntimeError(f"{NAME}: the worker died: {report.reason}")
        return report

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


@asynccontextmanager
async def open_our_worker(setup: Setup, plan: Plan | None = None) -> AsyncIterator[OurWorker]:
    """A child with the model loaded by this plan, or by the one that is closest to what the peers do."""
    async with open_worker(limits=Limits(hang_s=600)) as worker:
        await worker.send(w.Load(plan or peer_plan(setup), str(setup.model)))
        while not isinstance(report := await worker.next_report(), w.Loaded):
            if isinstance(report, w.Fault | WorkerDied):
                raise RuntimeError(f"{NAME} could not load the model: {report}")
        yield OurWorker(worker)


def peer_plan(setup: Setup) -> Plan:
    """As much of the prompts in a step as llama-server takes, split KV, nothing kept from prompt to prompt."""
    return Plan(
        model="bench",
        runtime="llama.cpp",
        quantization="",
        slots=setup.slots,
        slot_context_tokens=setup.slot_context_tokens,
        gpu_layers=setup.gpu_layers,
        device_id=setup.device_id,
        threads=setup.threads,
        prefill_chunk=PREFILL_CHUNK,
        prefix_cache=False,
    )
