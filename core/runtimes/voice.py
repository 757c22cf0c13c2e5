"""What one sequence has besides its tokens: its sampler, its text, its clock. All of it survives a preemption.

Never decides what goes into a step, and never keeps text that was given out. What a sampler is, each runtime knows.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from core.job import FinishReason, Sampling, Timing, TokenLogprob
from core.runtimes.logprobs import token_logprob
from core.runtimes.sequence import Sequence
from core.runtimes.text_stream import TextStream
from core.worker.messages import Chunk

Logits = npt.NDArray[np.float32]


class Closes(Protocol):
    """A sampler, as far as a voice is concerned."""

    def close(self) -> None:
        """Free it."""


class Spoken(Protocol):
    """A vocabulary, as far as a voice is concerned."""

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """The tokens that end the model's turn."""

    def piece(self, token: int) -> bytes | None:
        """The bytes that a token stands for, or None when it ends the model's turn."""


S = TypeVar("S", bound=Closes | None)


class Voice(Generic[S]):
    """sampler None: its token is the largest of its row. close frees the sampler."""

    def __init__(self, sampling: Sampling, words: Spoken, *, sampler: S, now: float) -> None:
        self.sampler = sampler
        self._words = words
        self._piece_of = words.piece
        self._text = TextStream(sampling.stop)
        self._top_logprobs = sampling.top_logprobs
        self._ignores_ends = sampling.ignore_eos
        self._added_at = now
        self._started_at = now
        self._has_started = False
        self._first_at: float | None = None
        self._left_at: float | None = None
        self._away_s = 0.0
        self._steps = 0
        self._neighbours = 0

    @property
    def tells_logprobs(self) -> bool:
        """Whether each token is reported with its probability."""
        return self._top_logprobs is not None

    def start(self, now: float) -> bool:
        """Its prompt begins to be read; False when it had begun before."""
        if self._has_started:
            return False
        self._started_at, self._has_started = now, True
        return True

    def leave(self, now: float) -> None:
        """It has lost its slot, or waits to be paid for."""
        self._left_at = now if self._left_at is None else self._left_at

    def come_back(self, now: float) -> None:
        """It goes on; the time between is not counted as work."""
        away_s = now - (now if self._left_at is None else self._left_at)
        self._left_at = None
        if self._first_at is None:
            self._started_at += away_s
        else:
            self._away_s += away_s

    def count_step(self, neighbours: int, now: float) -> None:
        """It draws in this step, beside so many."""
        self._steps += 1
        self._neighbours += neighbours
        if self._first_at is None:
            self._first_at = now

    def correct(self, token: int, logits: Logits) -> int:
        """A greedy token, or the best that does not end the answer where the end is to be ignored."""
        if not self._ignores_ends or self._piece_of(token) is not None:
            return token
        row = logits.copy()
        row[self._words.ends] = -np.inf
        return int(np.argmax(row))

    def is_end(self, token: int) -> bool:
        """Whether a token ends the answer and stands for no text."""
        return self._piece_of(token) is None

    def logprob(self, token: int, logits: Logits) -> TokenLogprob:
        """How likely this token was."""
        return token_logprob(logits, token, top=self._top_logprobs or 0, piece=self._piece)

    def say(self, sequence: Sequence, token: int) -> tuple[str, FinishReason | None]:
        """Let a sequence have its token: the text that it completes, and why the sequence ends, if it does."""
        piece = self._piece_of(token)
        if piece is None:
            return self._text.finish(), FinishReason.STOP
        sequence.tokens.append(token)
        text = self._text.feed(piece)
        if self._text.is_stopped:
            return text, FinishReason.STOP
        if sequence.completion_tokens >= sequence.limit:
            return text + self._text.finish(), FinishReason.LENGTH
        return text, None

    def timing(self, sequence: Sequence, *, now: float) -> Timing:
        """What was measured, now that it has ended."""
        first_at = self._first_at or now
        return Timing(
            prefill_s=first_at - self._started_at,
            decode_s=now - first_at - self._away_s,
            ttft_s=first_at - self._added_at,
            batch=self._neighbours / max(1, self._steps),
            cached_tokens=sequence.cached,
            drafted_tokens=sequence.drafted,
            accepted_tokens=sequence.accepted,
        )

    def close(self) -> None:
        """Free the sampler."""
        if self.sampler is not None:
            self.sampler.close()

    def _piece(self, token: int) -> bytes:
        return self._piece_of(token) or b""


def chunk_of(sequence: Sequence, text: str, *, odds: tuple[TokenLogprob, ...], is_over: bool) -> Chunk | None:
    """What is to be told; that a job has used up its allowance is told even without text."""
    if text or odds or (sequence.is_paused and not is_over):
        return Chunk(sequence.job_id, text, sequence.completion_tokens, odds)
    return None
