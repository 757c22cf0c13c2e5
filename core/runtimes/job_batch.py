"""The jobs of one loaded model, alike for every runtime: taken in, paused, put aside, ended, and told of.

Never runs a step: a runtime does, between seat and report. Pure but for the clock of its jobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Generic

import msgspec

from core.job import FinishReason, JobId, Sampling, Usage
from core.runtimes.batch import Batch, Pace
from core.runtimes.kv_slots import KvOrder, KvSlots
from core.runtimes.prefix_cache import PrefixCache
from core.runtimes.request_limits import prompt_refusal, sampling_refusal
from core.runtimes.runtime import RuntimeFault
from core.runtimes.sequence import Rows, Sequence
from core.runtimes.tally import Tally
from core.runtimes.voice import S, Spoken, Voice
from core.worker.messages import (
    Chunk,
    Chunks,
    Completed,
    Count,
    FaultKind,
    Generate,
    JobFault,
    Preempted,
    Started,
    WorkerReport,
)

MAX_WAITING = 256
# Host memory for the KV of prefixes and preempted jobs that have no slot.
SAVED_BYTES = 512 << 20
# Steps with fewer rows say little of how fast prompts are read.
_READING_ROWS = 16


class Drawn(msgspec.Struct, frozen=True):
    """What one sequence got out of a step: tokens, text if there is any, and why it ends or fails, if it does."""

    sequence: Sequence
    tokens: int
    guessed: int
    accepted: int
    chunk: Chunk | None
    reason: FinishReason | None = None
    fault: RuntimeFault | None = None


class Opened(msgspec.Struct, Generic[S], frozen=True):
    """What jobs need of a loaded model: its vocabulary, a request as prompt tokens, what its draws are made by (of the
    sampling and the prompt), and orders to its KV carried out (the slots that are empty although they should not be).
    All but the vocabulary may raise RuntimeFault."""

    words: Spoken
    prompt_of: Callable[[Generate | Count], list[int]]
    open_sampler: Callable[[Sampling, list[int]], S]
    carry_out: Callable[[list[KvOrder]], Iterable[int]]
    context_tokens: int


class JobBatch(Generic[S]):
    """opened None: there is no model; every request is refused, and there is nothing to do."""

    def __init__(self, opened: Opened[S] | None = None, batch: Batch | None = None) -> None:
        self.batch = _empty_batch() if batch is None else batch
        self.voices: dict[JobId, Voice[S]] = {}
        self.tally = Tally()
        self._opened = opened
        self._away: list[Sequence] = []

    def close(self) -> None:
        """Free what the jobs hold."""
        for voice in self.voices.values():
            voice.close()
        self.voices.clear()
        self._away.clear()

    def count(self, asked: Count) -> int:
        """Prompt tokens of what is asked. Raises RuntimeFault (BAD_REQUEST)."""
        opened = self._model()
        refusal = prompt_refusal(asked, opened.context_tokens)
        if refusal:
            raise RuntimeFault(FaultKind.BAD_REQUEST, refusal)
        return len(opened.prompt_of(asked))

    def add(self, job: Generate) -> None:
        """Take a job. Raises RuntimeFault (BAD_REQUEST) when it can never run here."""
        opened = self._model()
        refusal = self._refusal(job, opened.context_tokens)
        if refusal:
            raise RuntimeFault(FaultKind.BAD_REQUEST, refusal)
        prompt = opened.prompt_of(job)
        room = opened.context_tokens - len(prompt)
        if room < 1 or not prompt:
            sentence = f"The prompt has {len(prompt)} tokens; this worker reads 1 to {opened.context_tokens - 1}."
            raise RuntimeFault(FaultKind.BAD_REQUEST, sentence)
        limit = min(max(1, job.sampling.max_tokens), room)
        sampler = opened.open_sampler(job.sampling, prompt)
        self.voices[job.job_id] = Voice(job.sampling, opened.words, sampler=sampler, now=time.perf_counter())
        self.batch.add(Sequence(job.job_id, prompt, limit=limit, allowance=job.allowance, scope=job.cache_scope))

    def allow(self, job_id: JobId, allowance: int) -> None:
        """Raise a job's allowance; it never falls, and an unknown job is ignored."""
        sequence = self.batch.get(job_id)
        if sequence is None or sequence.allowance is None:
            return
        was_paused = sequence.is_paused and sequence not in self._away
        sequence.allowance = max(sequence.allowance, allowance)
        if was_paused and not sequence.is_paused:
            self.voices[job_id].come_back(time.perf_counter())

    def cancel(self, job_id: JobId) -> list[WorkerReport]:
        """End a job now."""
        sequence = self.batch.get(job_id)
        if sequence is None:
            return []
        return [self.fail(sequence, RuntimeFault(FaultKind.CANCELLED, "The job was cancelled."))]

    def preempt(self, job_id: JobId) -> list[WorkerReport]:
        """Take a job's slot, or its place in the queue, until resume; nothing when it has ended or waits for that."""
        sequence = self.batch.get(job_id)
        if sequence is None or not self.batch.preempt(sequence):
            return []
        self.voices[job_id].leave(time.perf_counter())
        self._away.append(sequence)
        return [Preempted(job_id, _usage(sequence))]

    def resume(self, job_id: JobId) -> None:
        """Seat a preempted job before those who never had a slot."""
        sequence = self.batch.get(job_id)
        if sequence is not None:
            self.batch.resume(sequence)

    def seat(self, now: float) -> list[WorkerReport]:
        """Let those in who can come in, with what is known of their prompts already in their slots."""
        newcomers = self.batch.seat()
        followers = self.batch.slots.follow()
        self.batch.tidy()
        self.arrange()
        for sequence in [s for s in self._away if s.slot >= 0]:
            self.voices[sequence.job_id].come_back(now)
            self._away.remove(sequence)
        for sequence in (*newcomers, *followers):
            if sequence.has_begun and self.voices[sequence.job_id].start(now):
                self.tally.count_prompt(sequence)
        return [Started(s.job_id, s.prompt_tokens) for s in newcomers]

    def next_rows(self) -> list[Rows]:
        """What goes into the next step; the KV is ready for it."""
        rows = self.batch.next_rows()
        self.arrange()
        return rows

    def arrange(self) -> None:
        """Do to the KV what the slots ask for; what failed is read again."""
        slots = self.batch.slots
        orders = slots.take_orders()
        if not orders or self._opened is None:
            return
        for slot in self._opened.carry_out(orders):
            slots.lost(slot)

    def count_decode(self, took_s: float, rows: int) -> None:
        """The library has decoded so many rows: how fast prompts are read decides what is worth keeping."""
        self.tally.count_decode(took_s)
        if rows >= _READING_ROWS:
            costs = self.batch.slots.cache.costs
            costs.read_s_per_token += 0.2 * (took_s / rows - costs.read_s_per_token)

    def report(self, drawn: list[Drawn]) -> list[WorkerReport]:
        """The step's text in one Chunks, then the ends."""
        chunks = tuple(said.chunk for said in drawn if said.chunk is not None)
        reports: list[WorkerReport] = [Chunks(chunks)] if chunks else []
        now = time.perf_counter()
        for said in drawn:
            self.tally.count_drawn(said.tokens, guessed=said.guessed, accepted=said.accepted)
            if said.fault is not None:
                reports.append(self.fail(said.sequence, said.fault))
            elif said.reason is not None:
                timing = self.voices[said.sequence.job_id].timing(said.sequence, now=now)
                self._drop(said.sequence)
                reports.append(Completed(said.sequence.job_id, said.reason, _usage(said.sequence), timing))
            elif said.sequence.is_paused:
                self.voices[said.sequence.job_id].leave(now)
        return reports

    def fail(self, sequence: Sequence, fault: RuntimeFault) -> JobFault:
        """End a job that cannot go on."""
        self._drop(sequence)
        return JobFault(sequence.job_id, fault.kind, fault.message, _usage(sequence))

    def _refusal(self, job: Generate, context_tokens: int) -> str:
        if job.job_id in self.batch:
            return "This job is already here."
        if len(self.batch) >= MAX_WAITING:
            return "This worker has too many jobs waiting."
        return sampling_refusal(job.sampling) or prompt_refusal(job, context_tokens)

    def _drop(self, sequence: Sequence) -> None:
        self.batch.remove(sequence)
        self.voices.pop(sequence.job_id).close()
        if sequence in self._away:
            self._away.remove(sequence)

    def _model(self) -> Opened[S]:
        if self._opened is None:
            raise RuntimeFault(FaultKind.BAD_REQUEST, "No model is loaded.")
        return self._opened


def _empty_batch() -> Batch:
    cache = PrefixCache(shares=False, can_trim=False, room_bytes=0)
    return Batch(KvSlots(0, cache, is_split=True), Pace(chunk=0))


def _usage(sequence: Sequence) -> Usage:
    read = sequence.prompt_tokens if sequence.completion_tokens else sequence.read
    return Usage(read, sequence.completion_tokens)
