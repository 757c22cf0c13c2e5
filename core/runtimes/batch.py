"""The bookkeeping of continuous batching: who waits, who has a slot, and which tokens go into the next step.

Pure: no library, no clock. A sequence joins or leaves at any step. A row whose result is not yet allowed is not sent:
the sequence is paused there, keeps its slot and its KV, and goes on when its allowance is raised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from core.job import JobId
from core.runtimes.kv_slots import KvSlots, is_led_no_more
from core.runtimes.prompt_lookup import PromptLookup
from core.runtimes.sequence import Rows, Sequence

# On a CPU llama.cpp takes runs of at least TILE rows of one sequence by a flash attention that is up to four times
# faster a row. So a prompt's last run is not left with fewer; of less than WORTH_A_TILE rows nothing is lost.
TILE = 64
WORTH_A_TILE = 16
# A sequence that has waited so many steps for its allowance is moved out of its neighbours' way.
LONG_PAUSE_STEPS = 16


class Pace(msgspec.Struct, frozen=True):
    """How much goes into a step: chunk prompt tokens at most, of whole prompts only if is_whole.

    joins: whether others may join a running batch. draft_tokens are guessed ahead. steady: no pass over the weights has
    a single row, and nobody's prompt is read beside others, so that the same kernels run whoever else is there.
    """

    chunk: int
    is_whole: bool = False
    joins: bool = True
    draft_tokens: int = 0
    steady: bool = False


class Batch:
    """The sequences of one context, waiting or running, and the order in which they came."""

    def __init__(self, slots: KvSlots, pace: Pace) -> None:
        self.slots = slots
        self._pace = pace
        self._waiting: deque[Sequence] = deque()
        self._resumed: deque[Sequence] = deque()
        self._by_id: dict[JobId, Sequence] = {}
        self._order: list[Sequence] = []
        self._has_read = False
        self._paused_steps = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._by_id

    @property
    def running(self) -> Iterator[Sequence]:
        """Sequences that have a slot, by slot."""
        return (s for s in self.slots.live if s is not None)

    @property
    def youngest(self) -> Sequence:
        """The one that got its slot last. There must be one."""
        return self._order[-1]

    @property
    def can_step(self) -> bool:
        """True when the next step would do something."""
        if any(s.due() > 0 or is_led_no_more(s) for s in self._order):
            return True
        return bool(self._resumed or self._waiting) and self._may_join

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence for the next free slot."""
        if self._pace.draft_tokens > 0:
            sequence.lookup = PromptLookup(self._pace.draft_tokens)
        self._by_id[sequence.job_id] = sequence
        self._waiting.append(sequence)

    def get(self, job_id: JobId) -> Sequence | None:
        """The sequence of this job, waiting, running or preempted."""
        return self._by_id.get(job_id)

    def seat(self) -> list[Sequence]:
        """Give free slots to those who wait: the resumed, then first come first; who got one for the first time."""
        newcomers: list[Sequence] = []
        if not self._may_join:
            return newcomers
        while (self._resumed or self._waiting) and self.slots.has_free:
            sequence = (self._resumed or self._waiting).popleft()
            if not sequence.has_begun:
                newcomers.append(sequence)
            self.slots.seat(sequence)
            self._order.append(sequence)
        return newcomers

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, and free its slot if it had one."""
        del self._by_id[sequence.job_id]
        if sequence.slot >= 0:
            self.slots.leave(sequence)
            self._order.remove(sequence)
        elif sequence.is_preempted:
            self.slots.disown(sequence)
        self._unqueue(sequence)

    def preempt(self, sequence: Sequence) -> bool:
        """Take a sequence's slot, or its place in the queue, until resume; False when that is done already."""
        if sequence.slot >= 0:
            self.slots.leave(sequence, comes_back=True)
            self._order.remove(sequence)
        elif not self._unqueue(sequence):
            return False
        sequence.is_preempted = True
        return True

    def resume(self, sequence: Sequence) -> None:
        """Queue a preempted sequence again, before those who never had a slot."""
        if sequence.slot < 0 and sequence not in self._resumed and sequence not in self._waiting:
            self._resumed.append(sequence)

    def tidy(self) -> None:
        """Keep those that step in consecutive slots, when nobody waits for the holes."""
        if self._waiting or self._resumed:
            return
        self.slots.close_gap()
        paused = next((s for s in self.running if s.leader is None and s.due() <= 0), None)
        self._paused_steps = 0 if paused is None else self._paused_steps + 1
        if paused is not None and self._paused_steps >= LONG_PAUSE_STEPS:
            self._paused_steps = 0
            self.slots.set_aside(paused)

    def next_rows(self) -> list[Rows]:
        """The next step, by slot: one token of each decoding sequence, and prompts by arrival up to the chunk."""
        reading: list[Sequence] = []
        decoding: list[Sequence] = []
        for sequence in self._order:
            if sequence.due() > 0:
                (reading if sequence.is_reading else decoding).append(sequence)
        if self._pace.steady:
            return self._steady_rows(reading, decoding)
        rows = self._reads(reading, is_mixed=bool(decoding))
        rows += self._draws(decoding)
        rows.sort(key=lambda r: r.sequence.slot)
        return rows

    @property
    def _may_join(self) -> bool:
        return self.slots.has_free and (self._pace.joins or not self._order)

    def _unqueue(self, sequence: Sequence) -> bool:
        for queue in (self._waiting, self._resumed):
            if sequence in queue:
                queue.remove(sequence)
                return True
        return False

    def _reads(self, reading: list[Sequence], *, is_mixed: bool = False) -> list[Rows]:
        """Prompts by arrival. With a KV of its own, one more length of rows costs one more pass over the weights: what
        would fit into a step, but not beside the others, waits for the next."""
        chunk = budget = self._pace.chunk
        keeps_whole = self._pace.is_whole or self.slots.is_split
        rows = []
        for sequence in reading:
            due = sequence.due()
            count = min(due, budget)
            if count == 0 or (keeps_whole and count < due <= chunk and budget < chunk):
                continue
            budget -= count
            if self.slots.is_split and count == chunk < due:
                count -= _held_back(due - count, count=count, is_mixed=is_mixed)
            draws = sequence.fed + count == len(sequence.tokens)
            rows.append(Rows(sequence, sequence.fed, count, draws, int(draws)))
        return rows

    def _draws(self, decoding: list[Sequence]) -> list[Rows]:
        if self._pace.draft_tokens == 0 or not decoding:
            return [Rows(s, s.fed, 1, True, 1) for s in decoding]
        guesses = [self._guess(s) for s in decoding]
        if self.slots.is_split:
            # a stream with more rows than the others costs one more pass over the weights
            shortest = min(map(len, guesses))
            guesses = [guess[:shortest] for guess in guesses]
        pairs = zip(decoding, guesses, strict=True)
        return [Rows(s, s.fed, 1, True, 1 + len(guess), tuple(guess)) for s, guess in pairs]

    def _guess(self, sequence: Sequence) -> list[int]:
        if sequence.lookup is None:
            return []
        return sequence.lookup.guess(sequence.tokens, sequence.may_draw() - 1)

    def _steady_rows(self, reading: list[Sequence], decoding: list[Sequence]) -> list[Rows]:
        """One prompt's chunk, then everyone's next token, in turn: as each would have it alone."""
        self._has_read = bool(reading) and not (self._has_read and decoding)
        if self._has_read:
            return [self._in_pairs(row) for row in self._reads(reading[:1])]
        rows = sorted(self._draws(decoding), key=lambda r: r.sequence.slot)
        taken = {row.sequence.slot for row in rows}
        is_lone = [not {row.sequence.slot - 1, row.sequence.slot + 1} & taken for row in rows]
        return [self._in_pairs(row) if lone else row for row, lone in zip(rows, is_lone, strict=True)]

    def _in_pairs(self, row: Rows) -> Rows:
        """No single row and no single output: the token before is fed again."""
        if row.count + len(row.guesses) == 1 and row.start > 0:
            self.slots.trim(row.sequence, row.start - 1)
            row = msgspec.structs.replace(row, start=row.start - 1, count=2)
        return msgspec.structs.replace(row, outputs=min(2, row.count)) if row.outputs == 1 else row


def _held_back(left: int, *, count: int, is_mixed: bool) -> int:
    """How many rows of a whole chunk are better read in the next step, beside `left` others that are then the last.
    Beside decoding neighbours the first row of a run goes into a pass with theirs."""
    wanted = TILE + is_mixed
    return wanted - left if WORTH_A_TILE <= left < wanted <= count else 0
