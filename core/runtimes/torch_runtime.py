"""torch as a Runtime: continuous batching over transformers' models, one token of every sequence a step.

Lives in the worker child only, where its import takes seconds. For large batches on a GPU, and for models that have no
GGUF. It guesses no tokens ahead, computes in one precision throughout (the KV's too) and on one device.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from core.job import JobId, Usage
from core.plan import Plan
from core.runtimes import torch_sampling
from core.runtimes.batch import Batch, Pace
from core.runtimes.kv_slots import KvSlots
from core.runtimes.prefix_cache import PrefixCache
from core.runtimes.request_limits import MAX_BYTES_PER_TOKEN, prompt_refusal, sampling_refusal
from core.runtimes.runtime import OutOfMemory, RuntimeFault
from core.runtimes.sequence import Sequence
from core.runtimes.tally import Tally
from core.runtimes.torch_model import TorchModel
from core.runtimes.torch_rows import Laid, lay_out
from core.runtimes.torch_voice import TorchVoice
from core.worker.messages import (
    Chunk,
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
MAX_TEXTS = 256
MAX_TEXT_TOKENS = 2048
# Host memory for the KV of prefixes and preempted jobs that have no slot.
SAVED_BYTES = 512 << 20
# Steps with fewer rows say little of how fast prompts are read.
_READING_ROWS = 16


class TorchRuntime:
    """The Runtime of plans that say "torch". load first; unload frees everything."""

    def __init__(self, on_progress: Callable[[float], None] | None = None) -> None:
        self._tell = on_progress or (lambda _fraction: None)
        self._plan: Plan | None = None
        self._model: TorchModel | None = None
        self._voices: dict[JobId, TorchVoice] = {}
        self._tally = Tally()
        self._batch = _empty_batch()

    def load(self, plan: Plan, path: str) -> Loaded:
        """Load the model by this plan. Raises RuntimeFault."""
        began = time.perf_counter()
        self.unload()
        cache = PrefixCache(shares=plan.prefix_cache, can_trim=True, room_bytes=SAVED_BYTES)
        model = self._model = TorchModel(plan, path, costs=cache.costs, tell=self._tell)
        self._plan = plan
        cache.costs.bytes_per_token = model.kv.token_bytes
        pace = Pace(
            chunk=plan.prefill_chunk or plan.slot_context_tokens,
            is_whole=plan.prefill_chunk == 0,
            joins=plan.continuous_batching,
        )
        self._batch = Batch(KvSlots(plan.slots, cache, is_split=True), pace)
        load_s = time.perf_counter() - began
        memory = model.memory_bytes
        return Loaded(load_s, memory, plan.slot_context_tokens, model.description, {model.device_id: memory})

    def unload(self) -> None:
        """Free the model; the runtime can load again."""
        self._voices.clear()
        self._batch = _empty_batch()
        self._tally = Tally()
        if self._model is not None:
            self._model.close()
        self._model = self._plan = None

    def count(self, asked: Count) -> int:
        """Prompt tokens of these messages, or of this text. Raises RuntimeFault."""
        model, plan = self._loaded()
        refusal = prompt_refusal(asked, plan.slot_context_tokens)
        if refusal:
            raise RuntimeFault(FaultKind.BAD_REQUEST, refusal)
        return len(model.words.prompt_of(asked))

    def embed(self, asked: Embed) -> Embedded:
        """One unit vector for each text. Raises RuntimeFault."""
        model, _ = self._loaded()
        texts = _read_texts(model, asked)
        vectors = [vector for text in texts for vector in model.embed([text])]
        return Embedded(asked.job_id, tuple(vectors), sum(map(len, texts)))

    def add(self, job: Generate) -> None:
        """Take a job. Raises RuntimeFault (BAD_REQUEST) when it can never run here."""
        model, plan = self._loaded()
        refusal = self._refusal(job, plan)
        if refusal:
            raise RuntimeFault(FaultKind.BAD_REQUEST, refusal)
        prompt = model.words.prompt_of(job)
        room = plan.slot_context_tokens - len(prompt)
        if room < 1 or not prompt:
            sentence = f"The prompt has {len(prompt)} tokens; this worker reads 1 to {plan.slot_context_tokens - 1}."
            raise RuntimeFault(FaultKind.BAD_REQUEST, sentence)
        limit = min(max(1, job.sampling.max_tokens), room)
        self._voices[job.job_id] = TorchVoice(job.sampling, model.words, now=time.perf_counter())
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
        model, _ = self._loaded()
        reports: list[WorkerReport] = list(self._seat(model, began))
        rows = self._batch.next_rows()
        self._arrange(model)
        if rows:
            reports += self._run(model, lay_out(rows))
        self._tally.count_step(time.perf_counter() - began)
        return reports

    def _refusal(self, job: Generate, plan: Plan) -> str:
        if job.job_id in self._batch:
            return "This job is already here."
        if len(self._batch) >= MAX_WAITING:
            return "This worker has too many jobs waiting."
        return sampling_refusal(job.sampling) or prompt_refusal(job, plan.slot_context_tokens)

    def _seat(self, model: TorchModel, now: float) -> list[WorkerReport]:
        """Let those in who can come in, with what is known of their prompts already in their slots."""
        newcomers = self._batch.seat()
        followers = self._batch.slots.follow()
        self._batch.tidy()
        self._arrange(model)
        for sequence in (*newcomers, *followers):
            if sequence.has_begun and self._voices[sequence.job_id].start(now):
                self._tally.count_prompt(sequence)
        return [Started(s.job_id, s.prompt_tokens) for s in newcomers]

    def _arrange(self, model: TorchModel) -> None:
        """Do to the KV what the slots ask for; what failed is read again."""
        slots = self._batch.slots
        orders = slots.take_orders()
        for slot in model.kv.carry_out(orders) if orders else ():
            sequence = slots.live[slot]
            if sequence is not None and sequence.leader is None:
                sequence.lose_kv()

    def _run(self, model: TorchModel, laid: Laid) -> list[WorkerReport]:
        began = time.perf_counter()
        try:
            logits = model.decode(laid.tokens, laid.rows, drawing=laid.drawing)
            tokens = self._draw(laid.speakers, logits) if laid.speakers else []
        except RuntimeFault as fault:
            return self._survive(fault)
        took_s = time.perf_counter() - began
        self._tally.count_decode(took_s)
        if len(laid.tokens) >= _READING_ROWS:
            costs = self._batch.slots.cache.costs
            costs.read_s_per_token += 0.2 * (took_s / len(laid.tokens) - costs.read_s_per_token)
        for row in laid.order:
            row.sequence.advance(row.start + row.count)
        return self._report(laid.speakers, tokens, logits=logits)

    def _draw(self, speakers: list[Sequence], logits: torch.Tensor) -> list[int | RuntimeFault]:
        samplers = [self._voices[s.job_id].sampler for s in speakers]
        return torch_sampling.draw(logits, samplers, tokens=[s.tokens for s in speakers])

    def _report(
        self, speakers: list[Sequence], tokens: list[int | RuntimeFault], *, logits: torch.Tensor
    ) -> list[WorkerReport]:
        """The step's text in one Chunks, then the ends."""
        chunks: list[Chunk] = []
        ends: list[WorkerReport] = []
        now = time.perf_counter()
        for sequence, token, row in zip(speakers, tokens, logits, strict=True):
            if isinstance(token, RuntimeFault):
                ends.append(self._fail(sequence, token))
                continue
            voice = self._voices[sequence.job_id]
            before = sequence.completion_tokens
            chunk, reason = voice.speak(sequence, token, row=row, neighbours=len(speakers), now=now)
            self._tally.count_drawn(sequence.completion_tokens - before, guessed=0, accepted=0)
            if chunk is not None:
                chunks.append(chunk)
            if reason is not None:
                self._drop(sequence)
                ends.append(Completed(sequence.job_id, reason, _usage(sequence), voice.timing(sequence, now=now)))
        return [Chunks(tuple(chunks)), *ends] if chunks else ends

    def _survive(self, fault: RuntimeFault) -> list[WorkerReport]:
        """A step has failed: end as few jobs as can be. What was in the KV before is still there."""
        ended = [self._batch.youngest] if isinstance(fault, OutOfMemory) else list(self._batch.running)
        return [self._fail(sequence, fault) for sequence in ended]

    def _fail(self, sequence: Sequence, fault: RuntimeFault) -> JobFault:
        self._drop(sequence)
        return JobFault(sequence.job_id, fault.kind, fault.message, _usage(sequence))

    def _drop(self, sequence: Sequence) -> None:
        self._batch.remove(sequence)
        del self._voices[sequence.job_id]

    def _loaded(self) -> tuple[TorchModel, Plan]:
        if self._model is None or self._plan is None:
            raise RuntimeFault(FaultKind.BAD_REQUEST, "No model is loaded.")
        return self._model, self._plan


def _read_texts(model: TorchModel, asked: Embed) -> list[list[int]]:
    if not 0 < len(asked.texts) <= MAX_TEXTS:
        raise RuntimeFault(FaultKind.BAD_REQUEST, f"There may be 1 to {MAX_TEXTS} texts.")
    most = min(MAX_TEXT_TOKENS, model.context_tokens or MAX_TEXT_TOKENS)
    longest = max(len(text.encode("utf-8", "replace")) for text in asked.texts)
    if longest > MAX_BYTES_PER_TOKEN * most:
        raise RuntimeFault(FaultKind.BAD_REQUEST, f"A text has {longest} bytes; one may have {most} tokens.")
    texts = [model.words.tokenize(text) for text in asked.texts]
    for number, text in enumerate(texts):
        if not 0 < len(text) <= most:
            sentence = f"Text {number + 1} has {len(text)} tokens; one may have 1 to {most}."
            raise RuntimeFault(FaultKind.BAD_REQUEST, sentence)
    return texts


def _empty_batch() -> Batch:
    cache = PrefixCache(shares=False, can_trim=True, room_bytes=0)
    return Batch(KvSlots(0, cache, is_split=True), Pace(chunk=0))


def _usage(sequence: Sequence) -> Usage:
    read = sequence.prompt_tokens if sequence.completion_tokens else sequence.read
    return Usage(read, sequence.completion_tokens)
