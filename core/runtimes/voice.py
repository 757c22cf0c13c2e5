"""What one sequence has besides its tokens: its sampler, its text, its clock. All of it survives a preemption.

Never decides what goes into a step, and never keeps text that was given out.
"""

from __future__ import annotations

import llama_cpp.llama_cpp as C  # noqa: N812
import numpy as np
import numpy.typing as npt

from core.job import FinishReason, Sampling, Timing, TokenLogprob
from core.runtimes.llama_model import LlamaModel
from core.runtimes.llama_sampler import mask_ends, open_sampler
from core.runtimes.logprobs import token_logprob
from core.runtimes.sequence import Sequence
from core.runtimes.text_stream import TextStream

Logits = npt.NDArray[np.float32]


class Voice:
    """Opens its sampler: raises RuntimeFault (BAD_REQUEST) for one that cannot be. close frees it."""

    def __init__(self, sampling: Sampling, model: LlamaModel, *, prompt: list[int], now: float) -> None:
        self._model = model
        self._piece_of = model.words.piece
        self._sampler = open_sampler(sampling, model)
        if self._sampler is not None:
            self._sampler.accept_prompt(prompt)
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
    def is_greedy(self) -> bool:
        """Whether its token is the largest of its row."""
        return self._sampler is None

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
        """It has lost its slot."""
        self._left_at = now

    def come_back(self, now: float) -> None:
        """It has a slot again; the time between is not counted as work."""
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

    def draw(self, context: C.llama_context_p, row: int) -> int:
        """The next token by its sampler, from a row of the batch. Raises RuntimeFault when there is none."""
        assert self._sampler is not None
        return self._sampler.draw(context, row)

    def correct(self, token: int, logits: Logits) -> int:
        """A greedy token, or the best that does not end the answer where the end is to be ignored."""
        if not self._ignores_ends or self._piece_of(token) is not None:
            return token
        row = logits.copy()
        mask_ends(row, self._model)
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
        if self._sampler is not None:
            self._sampler.close()

    def _piece(self, token: int) -> bytes:
        return self._piece_of(token) or b""
