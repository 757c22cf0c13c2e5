"""llama.cpp as a Runtime: continuous batching over its C interface, one token of every sequence a step.

Lives in the worker child only. Never blocks but in step, load and embed. What a job leaves behind is its tokens' KV, if
the plan keeps prefixes: for jobs of the same scope, until it is evicted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from core.job import JobId, Usage
from core.plan import Plan
from core.runtimes.batch import Batch, Pace
from core.runtimes.kv_slots import KvSlots
from core.runtimes.kv_store import KvStore
from core.runtimes.llama_context import KvFull, LlamaContext, StepAborted, most_read
from core.runtimes.llama_devices import free_bytes
from core.runtimes.llama_embedder import Embedder
from core.runtimes.llama_log import LlamaLog
from core.runtimes.llama_model import LlamaModel
from core.runtimes.llama_step import Drawn, Step
from core.runtimes.prefix_cache import PrefixCache
from core.runtimes.request_limits import prompt_refusal, sampling_refusal
from core.runtimes.runtime import OutOfMemory, RuntimeFault
from core.runtimes.sequence import Rows, Sequence
from core.runtimes.tally import Tally
from core.runtimes.voice import Voice
from core.worker.messages import (
    Chunks,
    Completed,
    Count,
    Embed,
    Embedded,
    FaultKind,
    Generate,
    JobFault,
    Loaded,
    Preempted,
    ServingStats,
    Started,
    WorkerReport,
)

MAX_WAITING = 256
# Host memory for the KV of prefixes and preempted jobs that have no slot.
SAVED_BYTES = 512 << 20
# Steps with fewer rows say little of how fast prompts are read.
_READING_ROWS = 16


class LlamaRuntime:
    """The Runtime of plans that say "llama.cpp". load first; unload frees everything."""

    def __init__(self, on_progress: Callable[[float], None] | None = None) -> None:
        self._on_progress = on_progress
        self._plan: Plan | None = None
        self._model: LlamaModel | None = None
        self._context: LlamaContext | None = None
        self._embedder: Embedder | None = None
        self._log: LlamaLog | None = None
        self._voices: dict[JobId, Voice] = {}
        self._away: list[Sequence] = []
        self._tally = Tally()
        self._store: KvStore | None = None
        self._batch = _empty_batch()

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
        self._store = KvStore(context, cache.costs)
        slots = KvSlots(plan.slots, cache, is_split=context.is_split)
        self._batch = Batch(slots, _pace(plan, can_trim=context.can_trim))
        load_s = time.perf_counter() - began
        return Loaded(load_s, log.buffer_bytes, plan.slot_context_tokens, model.description, log.bytes_by_device)

    def unload(self) -> None:
        """Free the model; the runtime can load again."""
        for voice in self._voices.values():
            voice.close()
        self._voices.clear()
        self._away.clear()
        self._batch, self._store = _empty_batch(), None
        self._tally = Tally()
        for opened in (self._embedder, self._context, self._model, self._log):
            if opened is not None:
                opened.close()
        self._embedder = self._context = self._model = self._log = self._plan = None

    def count(self, asked: Count) -> int:
        """Prompt tokens of these messages, or of this text. Raises RuntimeFault."""
        model, plan = self._loaded()
        refusal = prompt_refusal(asked, plan.slot_context_tokens)
        if refusal:
            raise RuntimeFault(FaultKind.BAD_REQUEST, refusal)
        return len(model.prompt_of(asked))

    def embed(self, asked: Embed) -> Embedded:
        """One unit vector for each text. Raises RuntimeFault."""
        model, plan = self._loaded()
        if self._embedder is None:
            assert self._log is not None
            self._embedder = Embedder(model, threads=plan.threads, log=self._log)
        vectors, prompt_tokens = self._embedder.embed(asked.texts)
        return Embedded(asked.job_id, vectors, prompt_tokens)

    def add(self, job: Generate) -> None:
        """Take a job. Raises RuntimeFault (BAD_REQUEST) when it can never run here."""
        model, plan = self._loaded()
        refusal = self._refusal(job, plan)
        if refusal:
            raise RuntimeFault(FaultKind.BAD_REQUEST, refusal)
        prompt = model.prompt_of(job)
        room = plan.slot_context_tokens - len(prompt)
        if room < 1 or not prompt:
            sentence = f"The prompt has {len(prompt)} tokens; this worker reads 1 to {plan.slot_context_tokens - 1}."
            raise RuntimeFault(FaultKind.BAD_REQUEST, sentence)
        limit = min(max(1, job.sampling.max_tokens), room)
        self._voices[job.job_id] = Voice(job.sampling, model, prompt=prompt, now=time.perf_counter())
        self._batch.add(Sequence(job.job_id, prompt, limit=limit, allowance=job.allowance, scope=job.cache_scope))

    def allow(self, job_id: JobId, allowance: int) -> None:
        """Raise a job's allowance; it never falls, and an unknown job is ignored."""
        sequence = self._batch.get(job_id)
        if sequence is not None and sequence.allowance is not None:
            sequence.allowance = max(sequence.allowance, allowance)

    def cancel(self, job_id: JobId) -> list[WorkerReport]:
        """End a job now."""
        sequence = self._batch.get(job_id)
        if sequence is None:
            return []
        return [self._fail(sequence, RuntimeFault(FaultKind.CANCELLED, "The job was cancelled."))]

    def preempt(self, job_id: JobId) -> list[WorkerReport]:
        """Take a job's slot, or its place in the queue, until resume; nothing when it has ended or waits for that."""
        sequence = self._batch.get(job_id)
        if sequence is None or not self._batch.preempt(sequence):
            return []
        self._voices[job_id].leave(time.perf_counter())
        self._away.append(sequence)
        return [Preempted(job_id, _usage(sequence))]

    def resume(self, job_id: JobId) -> None:
        """Seat a preempted job before those who never had a slot."""
        sequence = self._batch.get(job_id)
        if sequence is not None:
            self._batch.resume(sequence)

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
        return self._tally.stats()

    def step(self) -> list[WorkerReport]:
        """Run one batch and draw from it."""
        began = time.perf_counter()
        reports: list[WorkerReport] = list(self._seat(began))
        rows = self._batch.next_rows()
        self._arrange()
        if rows:
            reports += self._run(rows)
        self._tally.count_step(time.perf_counter() - began)
        return reports

    def _refusal(self, job: Generate, plan: Plan) -> str:
        if job.job_id in self._batch:
            return "This job is already here."
        if len(self._batch) >= MAX_WAITING:
            return "This worker has too many jobs waiting."
        return sampling_refusal(job.sampling) or prompt_refusal(job, plan.slot_context_tokens)

    def _seat(self, now: float) -> list[WorkerReport]:
        """Let those in who can come in, with what is known of their prompts already in their slots."""
        newcomers = self._batch.seat()
        followers = self._batch.slots.follow()
        self._batch.tidy()
        self._arrange()
        for sequence in [s for s in self._away if s.slot >= 0]:
            self._voices[sequence.job_id].come_back(now)
            self._away.remove(sequence)
        for sequence in (*newcomers, *followers):
            if sequence.has_begun and self._voices[sequence.job_id].start(now):
                self._tally.count_prompt(sequence)
        return [Started(s.job_id, s.prompt_tokens) for s in newcomers]

    def _arrange(self) -> None:
        """Do to the KV what the slots ask for; what failed is read again."""
        slots = self._batch.slots
        orders = slots.take_orders()
        if not orders or self._store is None:
            return
        for slot in self._store.carry_out(orders):
            slots.lost(slot)

    def _run(self, rows: list[Rows]) -> list[WorkerReport]:
        assert self._context is not None
        step = Step(self._context, rows)
        try:
            self._decode(step)
        except RuntimeFault as fault:
            return self._survive(fault)
        drawn = step.draw(self._voices)
        for row in step.refused:
            self._batch.slots.trim(row, row.fed)
        return self._report(drawn)

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
                self._arrange()
        took_s = time.perf_counter() - began
        self._tally.count_decode(took_s)
        if step.size >= _READING_ROWS:
            costs = self._batch.slots.cache.costs
            costs.read_s_per_token += 0.2 * (took_s / step.size - costs.read_s_per_token)

    def _report(self, drawn: list[Drawn]) -> list[WorkerReport]:
        """The step's text in one Chunks, then the ends."""
        chunks = tuple(said.chunk for said in drawn if said.chunk is not None)
        reports: list[WorkerReport] = [Chunks(chunks)] if chunks else []
        now = time.perf_counter()
        for said in drawn:
            self._tally.count_drawn(said.tokens, guessed=said.guessed, accepted=said.accepted)
            if said.fault is not None:
                reports.append(self._fail(said.sequence, said.fault))
            elif said.reason is not None:
                timing = self._voices[said.sequence.job_id].timing(said.sequence, now=now)
                self._drop(said.sequence)
                reports.append(Completed(said.sequence.job_id, said.reason, _usage(said.sequence), timing))
        return reports

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
        return [self._fail(sequence, fault) for sequence in ended]

    def _fail(self, sequence: Sequence, fault: RuntimeFault) -> JobFault:
        self._drop(sequence)
        return JobFault(sequence.job_id, fault.kind, fault.message, _usage(sequence))

    def _drop(self, sequence: Sequence) -> None:
        self._batch.remove(sequence)
        self._voices.pop(sequence.job_id).close()
        if sequence in self._away:
            self._away.remove(sequence)

    def _loaded(self) -> tuple[LlamaModel, Plan]:
        if self._model is None or self._plan is None:
            raise RuntimeFault(FaultKind.BAD_REQUEST, "No model is loaded.")
        return self._model, self._plan


def _pace(plan: Plan, *, can_trim: bool) -> Pace:
    return Pace(
        chunk=most_read(plan),
        is_whole=plan.prefill_chunk == 0 and not plan.steady,
        joins=plan.continuous_batching,
        draft_tokens=plan.draft_tokens if can_trim else 0,
        steady=plan.steady and can_trim,
    )


def _empty_batch() -> Batch:
    cache = PrefixCache(shares=False, can_trim=False, room_bytes=0)
    return Batch(KvSlots(0, cache, is_split=True), Pace(chunk=0))


def _warm_up(context: LlamaContext) -> int:
    """One token through the whole model, so that the first job does not pay for lazy set-up and page faults. The bytes
    of its state."""
    context.begin()
    context.put([0], slot=0, position=0, draws=1)
    context.decode()
    size = context.state_bytes(0)
    context.clear()
    return size


def _usage(sequence: Sequence) -> Usage:
    read = sequence.prompt_tokens if sequence.completion_tokens else sequence.read
    return Usage(read, sequence.completion_tokens)
