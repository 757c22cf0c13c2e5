"""The bookkeeping of continuous batching: which sequence has which slot, and which tokens go into the next step.

Pure: no library, no clock. A sequence joins or leaves at any step. A row whose result is not yet allowed is not sent:
the sequence is paused there, keeps its slot and its KV, and goes on when its allowance is raised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from core.job import JobId


class Sequence:
    """One job in the batch. tokens are the prompt's, then each drawn one; fed of them are in the KV.

    limit is the most completion tokens it may ever have, allowance the most for now (None: no such bound).
    """

    def __init__(self, job_id: JobId, prompt: list[int], *, limit: int, allowance: int | None) -> None:
        self.job_id = job_id
        self.tokens = prompt
        self.prompt_tokens = len(prompt)
        self.limit = limit
        self.allowance = allowance
        self.fed = 0
        self.slot = -1

    @property
    def completion_tokens(self) -> int:
        """Tokens drawn so far."""
        return len(self.tokens) - self.prompt_tokens

    @property
    def is_prefilling(self) -> bool:
        """True until the whole prompt is in the KV."""
        return self.fed < self.prompt_tokens

    @property
    def is_paused(self) -> bool:
        """True when its next token is not paid for yet."""
        return self.allowance is not None and self.completion_tokens >= self.allowance

    def due(self) -> int:
        """How many tokens could be fed now: the last one draws a token, so it waits while that is not allowed."""
        return len(self.tokens) - self.fed - (1 if self.is_paused else 0)


class Rows(msgspec.Struct, frozen=True):
    """A run of consecutive tokens of one sequence in the next step; draws: the last of them gives a new token."""

    sequence: Sequence
    start: int
    count: int
    draws: bool


class Move(msgspec.Struct, frozen=True):
    """Copy the KV of one slot to another, then forget the first."""

    source: int
    target: int


class Batch:
    """The slots and the queue before them. chunk is the most prompt tokens in one step."""

    def __init__(self, *, slots: int, chunk: int) -> None:
        self._chunk = chunk
        self._slots: list[Sequence | None] = [None] * slots
        self._waiting: deque[Sequence] = deque()
        self._by_id: dict[JobId, Sequence] = {}
        self._order: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._by_id

    @property
    def running(self) -> Iterator[Sequence]:
        """Sequences that have a slot, by slot."""
        return (s for s in self._slots if s is not None)

    @property
    def can_step(self) -> bool:
        """True when the next step would do something."""
        is_free = any(s is None for s in self._slots)
        return (is_free and bool(self._waiting)) or any(s.due() > 0 for s in self.running)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence for the next free slot."""
        self._by_id[sequence.job_id] = sequence
        self._waiting.append(sequence)

    def get(self, job_id: JobId) -> Sequence | None:
        """The sequence of this job, waiting or running."""
        return self._by_id.get(job_id)

    def seat(self) -> list[Sequence]:
        """Give free slots, lowest first, to those who wait, first come first; who got one."""
        seated = []
        for slot, occupant in enumerate(self._slots):
            if not self._waiting:
                break
            if occupant is None:
                sequence = self._waiting.popleft()
                sequence.slot = slot
                self._slots[slot] = sequence
                self._order.append(sequence)
                seated.append(sequence)
        return seated

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, and free its slot if it had one."""
        del self._by_id[sequence.job_id]
        if sequence.slot < 0:
            self._waiting.remove(sequence)
            return
        self._slots[sequence.slot] = None
        self._order.remove(sequence)

    def close_gap(self) -> Move | None:
        """Move the highest sequence into the lowest hole below it, when nobody waits for that hole.

        llama.cpp takes only consecutive slots into one pass over the weights.
        """
        if self._waiting:
            return None
        top = max((s.slot for s in self.running), default=-1)
        hole = next((i for i, s in enumerate(self._slots[: top + 1]) if s is None), None)
        if hole is None:
            return None
        sequence = self._slots[top]
        assert sequence is not None
        self._slots[hole], self._slots[top] = sequence, None
        sequence.slot = hole
        return Move(top, hole)

    def next_rows(self) -> list[Rows]:
        """The next step, by slot: one token of each decoding sequence, and prompts by arrival up to the chunk."""
        budget = self._chunk
        rows: list[tuple[int, Rows]] = []
        for sequence in self._order:
            due = sequence.due()
            count = min(due, budget) if sequence.is_prefilling else due
            if count <= 0:
                continue
            if sequence.is_prefilling:
                budget -= count
            draws = sequence.fed + count == len(sequence.tokens)
            rows.append((sequence.slot, Rows(sequence, sequence.fed, count, draws)))
        rows.sort(key=lambda r: r[0])
        return [row for _, row in rows]
