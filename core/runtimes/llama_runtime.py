"""llama.cpp as a Runtime: continuous batching over its C interface, one token of every sequence a step.

Lives in the worker child only. Never blocks but in step and load, and never keeps a prompt after its job has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from core.job import FinishReason, JobId, Sampling, Timing, Usage
from core.plan import Plan
from core.runtimes.batch import Batch, Rows, Sequence
from core.runtimes.llama_context import LlamaContext
from core.runtimes.llama_devices import free_bytes
from core.runtimes.llama_log import LlamaLog
from core.runtimes.llama_model import LlamaModel
from core.runtimes.llama_sampler import SamplerChain, open_sampler
from core.runtimes.request_limits import prompt_refusal, sampling_refusal
from core.runtimes.runtime import OutOfMemory, RuntimeFault
from core.runtimes.text_stream import TextStream
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
    ServingStats,
    Started,
    WorkerReport,
)

MAX_WAITING = 256


class _Voice:
    """What one sequence has besides its tokens: its sampler, its text, its clock."""

    def __init__(self, sampling: Sampling, model: LlamaModel, *, now: float) -> None:
        self.sampler: SamplerChain | None = open_sampler(sampling, model)
        self.text = TextStream(sampling.stop)
        self.added_at = now
        self.started_at = now
        self.first_at: float | None = None
        self.steps = 0
        self.neighbours = 0


class LlamaRuntime:
    """The Runtime of plans that say "llama.cpp". load first; unload frees everything."""

    def __init__(self, on_progress: Callable[[float], None] | None = None) -> None:
        self._on_progress = on_progress
        self._model: LlamaModel | None = None
        self._context: LlamaContext | None = None
        self._batch = Batch(slots=0, chunk=0)
        self._voices: dict[JobId, _Voice] = {}
        self._slot_context = 0
        self._closes_gaps = False
        self._log: LlamaLog | None = None

    def load(self, plan: Plan, path: str) -> Loaded:
        """Load the model by this plan. Raises RuntimeFault."""
        began = time.perf_counter()
        self.unload()
        log = self._log = LlamaLog()
        try:
            self._model = LlamaModel(path, log=log, plan=plan, on_progress=self._on_progress)
            self._context = LlamaContext(self._model, plan, log=log)
            self._warm_up(self._context)
        except OutOfMemory as fault:
            self.unload()
            raise OutOfMemory(fault.message, free_bytes=free_bytes(plan.device_id)) from fault
        except RuntimeFault:
            self.unload()
            raise
        self._batch = Batch(slots=plan.slots, chunk=max(1, plan.prefill_chunk))
        self._slot_context = plan.slot_context_tokens
        self._closes_gaps = not plan.unified_kv
        load_s = time.perf_counter() - began
        context = plan.slot_context_tokens
        return Loaded(load_s, log.buffer_bytes, context, self._model.description, log.bytes_by_device)

    def unload(self) -> None:
        """Free the model; the runtime can load again."""
        for voice in self._voices.values():
            _close(voice)
        self._voices.clear()
        self._batch = Batch(slots=0, chunk=0)
        if self._context is not None:
            self._context.close()
        if self._model is not None:
            self._model.close()
        if self._log is not None:
            self._log.close()
        self._context = self._model = self._log = None

    def count(self, asked: Count) -> int:
        """Prompt tokens of these messages, or of this text. Raises RuntimeFault."""
        refusal = prompt_refusal(asked, self._slot_context)
        if refusal:
            raise RuntimeFault(FaultKind.BAD_REQUEST, refusal)
        return len(self._loaded_model().prompt_of(asked))

    def add(self, job: Generate) -> None:
        """Take a job. Raises RuntimeFault (BAD_REQUEST) when it can never run here."""
        refusal = self._refusal(job)
        if refusal:
            raise RuntimeFault(FaultKind.BAD_REQUEST, refusal)
        prompt = self._loaded_model().prompt_of(job)
        room = self._slot_context - len(prompt)
        if room < 1 or not prompt:
            sentence = f"The prompt has {len(prompt)} tokens; this worker reads 1 to {self._slot_context - 1}."
            raise RuntimeFault(FaultKind.BAD_REQUEST, sentence)
        limit = min(max(1, job.sampling.max_tokens), room)
        self._voices[job.job_id] = _Voice(job.sampling, self._loaded_model(), now=time.perf_counter())
        self._batch.add(Sequence(job.job_id, prompt, limit=limit, allowance=job.allowance))

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
        return [self._fail(sequence, kind=FaultKind.CANCELLED, message="The job was cancelled.")]

    @property
    def has_jobs(self) -> bool:
        """True while any job is here."""
        return len(self._batch) > 0

    @property
    def can_step(self) -> bool:
        """True while a step would do something."""
        return self._batch.can_step

    def preempt(self, job_id: JobId) -> list[WorkerReport]:
        """Not there yet: the job keeps its slot."""
        return []

    def resume(self, job_id: JobId) -> None:
        """Nothing to resume yet."""

    def embed(self, asked: Embed) -> Embedded:
        """Not there yet. Raises RuntimeFault."""
        raise RuntimeFault(FaultKind.BAD_REQUEST, "This runtime makes no embeddings.")

    @property
    def stats(self) -> ServingStats:
        """Nothing is counted yet."""
        return ServingStats()

    def step(self) -> list[WorkerReport]:
        """Run one batch and draw from it."""
        reports: list[WorkerReport] = list(self._seat())
        context = self._loaded_context()
        if self._closes_gaps and (move := self._batch.close_gap()) is not None:
            context.move(move.source, move.target)
        rows = self._batch.next_rows()
        if not rows:
            return reports
        try:
            drawing = _fill(context, rows)
            context.decode()
        except RuntimeFault as fault:
            return reports + self._fail_all(fault)
        for row in rows:
            row.sequence.fed += row.count
        return reports + self._draw(context, drawing)

    def _refusal(self, job: Generate) -> str:
        if job.job_id in self._batch:
            return "This job is already here."
        if len(self._batch) >= MAX_WAITING:
            return "This worker has too many jobs waiting."
        return sampling_refusal(job.sampling) or prompt_refusal(job, self._slot_context)

    def _seat(self) -> list[WorkerReport]:
        seated = self._batch.seat()
        now = time.perf_counter()
        for sequence in seated:
            self._voices[sequence.job_id].started_at = now
        return [Started(s.job_id, s.prompt_tokens) for s in seated]

    def _draw(self, context: LlamaContext, drawing: list[tuple[Sequence, int]]) -> list[WorkerReport]:
        """One new token for each drawing sequence; the step's text in one Chunks, then the ends."""
        if not drawing:
            return []
        greedy = _argmax(context, len(drawing)) if self._is_any_greedy(drawing) else []
        chunks: list[Chunk] = []
        ends: list[WorkerReport] = []
        now = time.perf_counter()
        for index, (sequence, row) in enumerate(drawing):
            voice = self._voices[sequence.job_id]
            token = greedy[index] if voice.sampler is None else voice.sampler.draw(context.handle, row)
            voice.steps += 1
            voice.neighbours += len(drawing)
            if voice.first_at is None:
                voice.first_at = now
            text, reason = self._take(sequence, voice, token=token)
            if text or (sequence.is_paused and reason is None):
                chunks.append(Chunk(sequence.job_id, text, sequence.completion_tokens))
            if reason is not None:
                ends.append(self._complete(sequence, reason, now=now))
        return [Chunks(tuple(chunks)), *ends] if chunks else ends

    def _is_any_greedy(self, drawing: list[tuple[Sequence, int]]) -> bool:
        return any(self._voices[sequence.job_id].sampler is None for sequence, _ in drawing)

    def _take(self, sequence: Sequence, voice: _Voice, *, token: int) -> tuple[str, FinishReason | None]:
        """Let a sequence have its token: the text that it completes, and why the sequence ends, if it does."""
        piece = self._loaded_model().piece(token)
        if piece is None:
            return voice.text.finish(), FinishReason.STOP
        sequence.tokens.append(token)
        text = voice.text.feed(piece)
        if voice.text.is_stopped:
            return text, FinishReason.STOP
        if sequence.completion_tokens >= sequence.limit:
            return text + voice.text.finish(), FinishReason.LENGTH
        return text, None

    def _complete(self, sequence: Sequence, reason: FinishReason, *, now: float) -> Completed:
        voice = self._voices[sequence.job_id]
        first_at = voice.first_at or now
        timing = Timing(
            prefill_s=first_at - voice.started_at,
            decode_s=now - first_at,
            ttft_s=first_at - voice.added_at,
            batch=voice.neighbours / max(1, voice.steps),
        )
        self._drop(sequence)
        return Completed(sequence.job_id, reason, _usage(sequence), timing)

    def _fail(self, sequence: Sequence, *, kind: FaultKind, message: str) -> JobFault:
        self._drop(sequence)
        return JobFault(sequence.job_id, kind, message, _usage(sequence))

    def _fail_all(self, fault: RuntimeFault) -> list[WorkerReport]:
        running = list(self._batch.running)
        reports: list[WorkerReport] = [self._fail(s, kind=fault.kind, message=fault.message) for s in running]
        self._loaded_context().clear()
        return reports

    def _drop(self, sequence: Sequence) -> None:
        self._batch.remove(sequence)
        _close(self._voices.pop(sequence.job_id))
        if sequence.slot >= 0:
            self._loaded_context().forget(sequence.slot)

    def _warm_up(self, context: LlamaContext) -> None:
        """One token through the whole model, so that the first job does not pay for lazy set-up and page faults."""
        context.begin()
        context.put([0], slot=0, position=0, draws=True)
        context.decode()
        context.clear()

    def _loaded_model(self) -> LlamaModel:
        if self._model is None:
            raise RuntimeFault(FaultKind.BAD_REQUEST, "No model is loaded.")
        return self._model

    def _loaded_context(self) -> LlamaContext:
        if self._context is None:
            raise RuntimeFault(FaultKind.BAD_REQUEST, "No model is loaded.")
        return self._context


def _fill(context: LlamaContext, rows: list[Rows]) -> list[tuple[Sequence, int]]:
    """Put a step into the context's buffers; the sequences that draw, each with its row."""
    context.begin()
    if all(row.count == 1 and row.draws for row in rows):
        sequences = [row.sequence for row in rows]
        tokens = [s.tokens[row.start] for s, row in zip(sequences, rows, strict=True)]
        context.put_each(tokens, slots=[s.slot for s in sequences], positions=[row.start for row in rows])
        return [(sequence, row) for row, sequence in enumerate(sequences)]
    drawing = []
    for row in rows:
        tokens = row.sequence.tokens[row.start : row.start + row.count]
        last = context.put(tokens, slot=row.sequence.slot, position=row.start, draws=row.draws)
        if row.draws:
            drawing.append((row.sequence, last))
    return drawing


def _argmax(context: LlamaContext, outputs: int) -> list[int]:
    picked: list[int] = np.argmax(context.logits(outputs), axis=1).tolist()
    return picked


def _usage(sequence: Sequence) -> Usage:
    read = sequence.prompt_tokens if sequence.completion_tokens else min(sequence.fed, sequence.prompt_tokens)
    return Usage(read, sequence.completion_tokens)


def _close(voice: _Voice) -> None:
    if voice.sampler is not None:
        voice.sampler.close()
