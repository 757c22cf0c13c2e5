"""Many clients of one worker at once, as a peer's job desk would be: each waits for its answer, then goes on.

Measures what a client sees: time to the first text, the longest silence after it, tokens.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import trio

from core.job import ChatMessage, JobId, Sampling
from core.plan import Plan
from core.worker import messages as w
from core.worker.process import Limits, WorkerDied, WorkerProcess, open_worker

# A client that reads slower than the worker writes stops the reader, and so the worker: none does here.
QUEUED_REPORTS = 4096
LIMIT_S = 900.0


class Answer(msgspec.Struct, frozen=True):
    """What one client saw. stall_s is the longest time between two texts; began_at and ended_at by perf_counter;
    cached_tokens of the prompt were known from others."""

    text: str
    tokens: int
    ttft_s: float
    stall_s: float
    began_at: float
    ended_at: float
    prompt_tokens: int = 0
    cached_tokens: int = 0


class Ask(Protocol):
    """Give a conversation to the worker and wait for exactly so many tokens."""

    async def __call__(self, messages: tuple[ChatMessage, ...], tokens: int) -> Answer: ...


Client = Callable[[Ask], Awaitable[None]]


class Streams:
    """One worker's clients: hands every report to the client whose job it is about."""

    def __init__(self, worker: WorkerProcess) -> None:
        self.answers: list[Answer] = []
        self._worker = worker
        self._numbers = itertools.count()
        self._senders: dict[JobId, trio.MemorySendChannel[w.WorkerReport]] = {}

    async def serve(self, clients: list[Client]) -> list[Answer]:
        """Run all clients to their end; their answers. Raises RuntimeError when one gets none."""
        self.answers = []
        with trio.fail_after(LIMIT_S):
            async with trio.open_nursery() as around:
                around.start_soon(self._read)
                async with trio.open_nursery() as inside:
                    for client in clients:
                        inside.start_soon(client, self.ask)
                around.cancel_scope.cancel()
        return self.answers

    async def ask(self, messages: tuple[ChatMessage, ...], tokens: int) -> Answer:
        """One job from its Generate to its end. Raises RuntimeError."""
        job_id = JobId(f"stream-{next(self._numbers)}")
        send, receive = trio.open_memory_channel[w.WorkerReport](QUEUED_REPORTS)
        self._senders[job_id] = send
        began_at = time.perf_counter()
        await self._worker.send(w.Generate(job_id, messages, Sampling(max_tokens=tokens, ignore_eos=True)))
        answer = await _follow(receive, job_id, began_at)
        del self._senders[job_id]
        self.answers.append(answer)
        return answer

    async def _read(self) -> None:
        while True:
            report = await self._worker.next_report()
            match report:
                case w.Chunks(chunks=chunks):
                    for job_id in {chunk.job_id for chunk in chunks}:
                        await self._senders[job_id].send(report)
                case w.Completed() | w.JobFault():
                    await self._senders[report.job_id].send(report)
                case w.Fault() | WorkerDied():
                    raise RuntimeError(f"the worker failed: {report}")


async def load(worker: WorkerProcess, plan: Plan, path: str) -> None:
    """Load a model, instead of the one before. Raises RuntimeError."""
    await worker.send(w.Load(plan, path))
    while not isinstance(report := await worker.next_report(), w.Loaded):
        if isinstance(report, w.Fault | WorkerDied):
            raise RuntimeError(f"could not load the model: {report}")


async def serve_all(plan: Plan, path: str, clients: list[Client]) -> list[Answer]:
    """The answers of these clients from a fresh worker with this plan."""
    async with open_worker(limits=Limits(hang_s=LIMIT_S)) as worker:
        await load(worker, plan, path)
        return await Streams(worker).serve(clients)


async def _follow(receive: trio.MemoryReceiveChannel[w.WorkerReport], job_id: JobId, began_at: float) -> Answer:
    texts: list[str] = []
    heard: list[float] = []
    async for report in receive:
        match report:
            case w.Chunks(chunks=chunks):
                heard.append(time.perf_counter())
                texts += [chunk.text for chunk in chunks if chunk.job_id == job_id]
            case w.Completed(usage=usage, timing=timing):
                now = time.perf_counter()
                stall_s = max((after - before for before, after in itertools.pairwise(heard)), default=0.0)
                return Answer(
                    text="".join(texts),
                    tokens=usage.completion_tokens,
                    ttft_s=heard[0] - began_at if heard else now - began_at,
                    stall_s=stall_s,
                    began_at=began_at,
                    ended_at=now,
                    prompt_tokens=usage.prompt_tokens,
                    cached_tokens=timing.cached_tokens,
                )
            case w.JobFault(message=message):
                raise RuntimeError(f"a job failed: {message}")
    raise RuntimeError("a job got no answer")
