"""torch as a Runtime: continuous batching over transformers' models, one token of every sequence a step.

Lives in the worker child only, where its import takes seconds. For large batches on a GPU, and for models that have no
GGUF. It guesses no tokens ahead, computes in one precision throughout (the KV's too) and on one device.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from core.job import JobId, Sampling
from core.plan import Plan
from core.runtimes.batch import Batch, Pace
from core.runtimes.job_batch import SAVED_BYTES, Drawn, JobBatch, Opened
from core.runtimes.kv_slots import KvSlots
from core.runtimes.prefix_cache import PrefixCache
from core.runtimes.request_limits import MAX_BYTES_PER_TOKEN
from core.runtimes.runtime import OutOfMemory, RuntimeFault
from core.runtimes.sequence import Sequence
from core.runtimes.torch_model import TorchModel
from core.runtimes.torch_rows import Laid, lay_out
from core.runtimes.torch_sampling import TorchSampler, draw
from core.runtimes.voice import Voice, chunk_of
from core.worker.messages import Count, Embed, Embedded, FaultKind, Generate, Loaded, ServingStats, WorkerReport

MAX_TEXTS = 256
MAX_TEXT_TOKENS = 2048


class TorchRuntime:
    """The Runtime of plans that say "torch". load first; unload frees everything."""

    def __init__(self, on_progress: Callable[[float], None] | None = None) -> None:
        self._tell = on_progress or (lambda _fraction: None)
        self._model: TorchModel | None = None
        self._jobs: JobBatch[TorchSampler] = JobBatch()

    def load(self, plan: Plan, path: str) -> Loaded:
        """Load the model by this plan. Raises RuntimeFault."""
        began = time.perf_counter()
        self.unload()
        cache = PrefixCache(shares=plan.prefix_cache, can_trim=True, room_bytes=SAVED_BYTES)
        model = self._model = TorchModel(plan, path, costs=cache.costs, tell=self._tell)
        cache.costs.bytes_per_token = model.kv.token_bytes
        pace = Pace(
            chunk=plan.prefill_chunk or plan.slot_context_tokens,
            is_whole=plan.prefill_chunk == 0,
            joins=plan.continuous_batching,
        )
        batch = Batch(KvSlots(plan.slots, cache, is_split=True), pace)
        self._jobs = JobBatch(_opened(model, context_tokens=plan.slot_context_tokens), batch)
        load_s = time.perf_counter() - began
        memory = model.memory_bytes
        return Loaded(load_s, memory, plan.slot_context_tokens, model.description, {model.device_id: memory})

    def unload(self) -> None:
        """Free the model; the runtime can load again."""
        self._jobs.close()
        self._jobs = JobBatch()
        if self._model is not None:
            self._model.close()
        self._model = None

    def count(self, asked: Count) -> int:
        """Prompt tokens of these messages, or of this text. Raises RuntimeFault."""
        return self._jobs.count(asked)

    def embed(self, asked: Embed) -> Embedded:
        """One unit vector for each text. Raises RuntimeFault."""
        model = self._model
        if model is None:
            raise RuntimeFault(FaultKind.BAD_REQUEST, "No model is loaded.")
        texts = _read_texts(model, asked)
        vectors = [vector for text in texts for vector in model.embed([text])]
        return Embedded(asked.job_id, tuple(vectors), sum(map(len, texts)))

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
        return len(self._jobs.batch) > 0

    @property
    def can_step(self) -> bool:
        """True while a step would do something."""
        return self._jobs.batch.can_step

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
            reports += self._run(lay_out(rows))
        self._jobs.tally.count_step(time.perf_counter() - began)
        return reports

    def _run(self, laid: Laid) -> list[WorkerReport]:
        assert self._model is not None
        voices = [self._jobs.voices[s.job_id] for s in laid.speakers]
        began = time.perf_counter()
        try:
            logits = self._model.decode(laid.tokens, laid.rows, drawing=laid.drawing)
            samplers = [voice.sampler for voice in voices]
            tokens = draw(logits, samplers, tokens=[s.tokens for s in laid.speakers]) if voices else []
        except RuntimeFault as fault:
            return self._survive(fault)
        self._jobs.count_decode(time.perf_counter() - began, len(laid.tokens))
        for row in laid.order:
            row.sequence.advance(row.start + row.count)
        now = time.perf_counter()
        for voice in voices:
            voice.count_step(len(voices), now)
        parts = zip(laid.speakers, voices, tokens, logits, strict=True)
        return self._jobs.report([_speak(s, voice, token=token, row=row) for s, voice, token, row in parts])

    def _survive(self, fault: RuntimeFault) -> list[WorkerReport]:
        """A step has failed: end as few jobs as can be. What was in the KV before is still there."""
        batch = self._jobs.batch
        ended = [batch.youngest] if isinstance(fault, OutOfMemory) else list(batch.running)
        return [self._jobs.fail(sequence, fault) for sequence in ended]


def _speak(
    sequence: Sequence, voice: Voice[TorchSampler], *, token: int | RuntimeFault, row: torch.Tensor
) -> Drawn:
    """What a sequence gets for its token, drawn from this row of logits."""
    if isinstance(token, RuntimeFault):
        return Drawn(sequence, 0, 0, 0, None, None, token)
    before = sequence.completion_tokens
    tells = voice.tells_logprobs and not voice.is_end(token)
    odds = (voice.logprob(token, row.cpu().numpy()),) if tells else ()
    text, reason = voice.say(sequence, token)
    chunk = chunk_of(sequence, text, odds=odds, is_over=reason is not None)
    return Drawn(sequence, sequence.completion_tokens - before, 0, 0, chunk, reason)


def _opened(model: TorchModel, *, context_tokens: int) -> Opened[TorchSampler]:
    def sampler(sampling: Sampling, _prompt: list[int]) -> TorchSampler:
        return TorchSampler(sampling, model.words)

    return Opened(model.words, model.words.prompt_of, sampler, model.kv.carry_out, context_tokens)


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
