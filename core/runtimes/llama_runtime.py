"""llama.cpp as a Runtime: continuous batching over its C interface, one token of every sequence a step.

Lives in the worker child only. Never blocks but in step, load and embed. What a job leaves behind is its tokens' KV, if
the plan keeps prefixes: for jobs of the same scope, until it is evicted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from core.job import JobId, Sampling
from core.plan import Plan
from core.runtimes.batch import Batch, Pace
from core.runtimes.job_batch import SAVED_BYTES, JobBatch, Opened
from core.runtimes.kv_slots import KvSlots
from core.runtimes.kv_store import KvStore
from core.runtimes.llama_context import KvFull, LlamaContext, StepAborted, most_read
from core.runtimes.llama_devices import free_bytes
from core.runtimes.llama_embedder import Embedder
from core.runtimes.llama_log import LlamaLog
from core.runtimes.llama_model import LlamaModel
from core.runtimes.llama_sampler import SamplerChain, open_sampler
from core.runtimes.llama_step import Step
from core.runtimes.prefix_cache import PrefixCache
from core.runtimes.runtime import OutOfMemory, RuntimeFault
from core.runtimes.sequence import Rows, Sequence
from core.worker.messages import (
    Count,
    Embed,
    Embedded,
    FaultKind,
    Generate,
    Loaded,
    ServingStats,
    WorkerReport,
)


class LlamaRuntime:
    """The Runtime of plans that say "llama.cpp". load first; unload frees everything."""

    def __init__(self, on_progress: Callable[[float], None] | None = None) -> None:
        self._on_progress = on_progress
        self._plan: Plan | None = None
        self._model: LlamaModel | None = None
        self._context: LlamaContext | None = None
        self._embedder: Embedder | None = None
        self._log: LlamaLog | None = None
        self._store: KvStore | None = None
        self._jobs: JobBatch[SamplerChain | None] = JobBatch()

    @property
    def _batch(self) -> Batch:
        return self._jobs.batch

    def load(self, plan: Plan, path: str) -> Loaded:
        """Load the model by this plan. Raises RuntimeFault."""
        began = time.perf_counter()
        self.unload()
        log = self._log = LlamaLog()
        try:
            model = self._model = LlamaModel(path, log=log, plan=plan, on_progress=self._on_progress)
            context = self._context = LlamaContext(model, plan, log=log)
            token_bytes = _warm_up(context)
        except OutOfMemory as fault:
            self.unload()
            raise OutOfMemory(fault.message, free_bytes=free_bytes(plan.device_id)) from fault
        except RuntimeFault:
            self.unload()
            raise
        self._plan = plan
        cache = PrefixCache(shares=plan.prefix_cache, can_trim=context.can_trim, room_bytes=SAVED_BYTES)
        cache.costs.bytes_per_token = token_bytes
        store = self._store = KvStore(context, cache.costs)
        slots = KvSlots(plan.slots, cache, is_split=context.is_split)
        batch = Batch(slots, _pace(plan, can_trim=context.can_trim))
        self._jobs = JobBatch(_opened(model, store, context_tokens=plan.slot_context_tokens), batch)
        load_s = time.perf_counter() - began
        return Loaded(load_s, log.buffer_bytes, plan.slot_context_tokens, model.description, log.bytes_by_device)

    def unload(self) -> None:
        """Free the model; the runtime can load again."""
        self._jobs.close()
        self._jobs, self._store = JobBatch(), None
        for opened in (self._embedder, self._context, self._model, self._log):
            if opened is not None:
                opened.close()
        self._embedder = self._context = self._model = self._log = self._plan = None

    def count(self, asked: Count) -> int:
        """Prompt tokens of these messages, or of this text. Raises RuntimeFault."""
        return self._jobs.count(asked)

    def embed(self, asked: Embed) -> Embedded:
        """One unit vector for each text. Raises RuntimeFault."""
        model, plan = self._model, self._plan
        if model is None or plan is None:
            raise RuntimeFault(FaultKind.BAD_REQUEST, "No model is loaded.")
        if self._embedder is None:
            assert self._log is not None
            self._embedder = Embedder(model, threads=plan.threads, log=self._log)
        vectors, prompt_tokens = self._embedder.embed(asked.texts)
        return Embedded(asked.job_id, vectors, prompt_tokens)

    def add(self, job: Generate) -> None:
        """Take a job. Raises RuntimeFault (BAD_REQUEST) when it can never run here."""
        self._jobs.add(job)

    def allow(self, job_id: JobId, allowance: int) -> None:
        """Raise a job's allowance."""
        self._jobs.allow(job_id, allowance)

    def cancel(self, job_id: JobId) -> list[WorkerReport]:
        """End a job now."""
        return self._jobs.cancel(job_id)

    def preempt(self, job_id: JobId) -> list[WorkerReport]:
        """Take a job's slot, or its place in the queue, until resume."""
        return self._jobs.preempt(job_id)

    def resume(self, job_id: JobId) -> None:
        """Seat a preempted job before those who never had a slot."""
        self._jobs.resume(job_id)

    @property
    def has_jobs(self) -> bool:
        """True while any job is here."""
        return len(self._batch) > 0

    @property
    def can_step(self) -> bool:
        """True while a step would do something."""
        return self._batch.can_step

    @property
    def stats(self) -> ServingStats:
        """Sums since the model was loaded."""
        return self._jobs.tally.stats()

    def step(self) -> list[WorkerReport]:
        """Run one batch and draw from it."""
        began = time.perf_counter()
        reports = self._jobs.seat(began)
        rows = self._jobs.next_rows()
        if rows:
            reports += self._run(rows)
        self._jobs.tally.count_step(time.perf_counter() - began)
        return reports

    def _run(self, rows: list[Rows]) -> list[WorkerReport]:
        assert self._context is not None
        step = Step(self._context, rows)
        try:
            self._decode(step)
        except RuntimeFault as fault:
            return self._survive(fault)
        drawn = step.draw(self._jobs.voices)
        for row in step.refused:
            self._batch.slots.trim(row, row.fed)
        return self._jobs.report(drawn)

    def _decode(self, step: Step) -> None:
        """One pass; when the KV is full, give up what no job needs until it is not. Raises RuntimeFault."""
        began = time.perf_counter()
        while True:
            try:
                step.decode()
                break
            except KvFull:
                if not self._batch.slots.evict():
                    raise
                self._jobs.arrange()
        self._jobs.count_decode(time.perf_counter() - began, step.size)

    def _survive(self, fault: RuntimeFault) -> list[WorkerReport]:
        """A step has failed: believe the KV, not our count, and end as few jobs as can be."""
        context = self._context
        assert context is not None
        for sequence in self._batch.running:
            if sequence.leader is None:
                fed = min(context.held(sequence.slot), len(sequence.tokens) - 1)
                sequence.fed = fed if context.trim(sequence.slot, fed) else 0
        ended: list[Sequence] = []
        if isinstance(fault, OutOfMemory):
            ended = [self._batch.youngest]
        elif not isinstance(fault, StepAborted):
            ended = list(self._batch.running)
        return [self._jobs.fail(sequence, fault) for sequence in ended]


def _opened(model: LlamaModel, store: KvStore, *, context_tokens: int) -> Opened[SamplerChain | None]:
    def sampler(sampling: Sampling, prompt: list[int]) -> SamplerChain | None:
        chain = open_sampler(sampling, model)
        if chain is not None:
            chain.accept_prompt(prompt)
        return chain

    return Opened(model.words, model.prompt_of, sampler, store.carry_out, context_tokens)


def _pace(plan: Plan, *, can_trim: bool) -> Pace:
    return Pace(
        chunk=most_read(plan),
        is_whole=plan.prefill_chunk == 0 and not plan.steady,
        joins=plan.continuous_batching,
        draft_tokens=plan.draft_tokens if can_trim else 0,
        steady=plan.steady and can_trim,
    )


def _warm_up(context: LlamaContext) -> int:
    """One token through the whole model, so that the first job does not pay for lazy set-up and page faults. The bytes
    of its state."""
    context.begin()
    context.put([0], slot=0, position=0, draws=1)
    context.decode()
    size = context.state_bytes(0)
    context.clear()
    return size
