"""What one sequence of the torch runtime has besides its tokens: its sampler, its text, its clock.

All of it survives a preemption. Never decides what goes into a step, and never keeps text that was given out.
"""

from __future__ import annotations

import torch

from core.job import FinishReason, Sampling, Timing, TokenLogprob
from core.runtimes.logprobs import token_logprob
from core.runtimes.sequence import Sequence
from core.runtimes.text_stream import TextStream
from core.runtimes.torch_sampling import TorchSampler
from core.runtimes.torch_words import Words
from core.worker.messages import Chunk


class TorchVoice:
    """Raises RuntimeFault (BAD_REQUEST) for a sampling that cannot be."""

    def __init__(self, sampling: Sampling, words: Words, *, now: float) -> None:
        self.sampler = TorchSampler(sampling, words)
        self._words = words
        self._text = TextStream(sampling.stop)
        self._top_logprobs = sampling.top_logprobs
        self._added_at = self._started_at = now
        self._has_started = False
        self._first_at: float | None = None
        self._steps = 0
        self._neighbours = 0

    def start(self, now: float) -> bool:
        """Its prompt begins to be read; False when it had begun before."""
        if self._has_started:
            return False
        self._started_at, self._has_started = now, True
        return True

    def speak(
        self, sequence: Sequence, token: int, *, row: torch.Tensor, neighbours: int, now: float
    ) -> tuple[Chunk | None, FinishReason | None]:
        """Let a sequence have its token, drawn from this row of logits beside so many others: what is to be told, and
        why the sequence ends, if it does. That a job has used up its allowance is told even without text."""
        self._steps += 1
        self._neighbours += neighbours
        if self._first_at is None:
            self._first_at = now
        odds = self._odds(token, row)
        text, reason = self._say(sequence, token)
        if text or odds or (sequence.is_paused and reason is None):
            return Chunk(sequence.job_id, text, sequence.completion_tokens, odds), reason
        return None, reason

    def timing(self, sequence: Sequence, *, now: float) -> Timing:
        """What was measured, now that it has ended."""
        first_at = self._first_at or now
        return Timing(
            prefill_s=first_at - self._started_at,
            decode_s=now - first_at,
            ttft_s=first_at - self._added_at,
            batch=self._neighbours / max(1, self._steps),
            cached_tokens=sequence.cached,
        )

    def _say(self, sequence: Sequence, token: int) -> tuple[str, FinishReason | None]:
        piece = self._words.piece(token)
        if piece is None:
            return self._text.finish(), FinishReason.STOP
        sequence.tokens.append(token)
        text = self._text.feed(piece)
        if self._text.is_stopped:
            return text, FinishReason.STOP
        if sequence.completion_tokens >= sequence.limit:
            return text + self._text.finish(), FinishReason.LENGTH
        return text, None

    def _odds(self, token: int, row: torch.Tensor) -> tuple[TokenLogprob, ...]:
        if self._top_logprobs is None or self._words.piece(token) is None:
            return ()
        return (token_logprob(row.cpu().numpy(), token, top=self._top_logprobs, piece=self._piece),)

    def _piece(self, token: int) -> bytes:
        return self._words.piece(token) or b""
