"""What a runtime counts while it serves: a few additions a step.

Pure: durations are arguments.
"""

from __future__ import annotations

from core.runtimes.sequence import Sequence
from core.worker.messages import ServingStats


class Tally:
    """Sums since the model was loaded; stats gives them as a value."""

    def __init__(self) -> None:
        self._steps = 0
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._completion_tokens = 0
        self._drafted_tokens = 0
        self._accepted_tokens = 0
        self._step_s = 0.0
        self._decode_s = 0.0

    def count_prompt(self, sequence: Sequence) -> None:
        """A prompt begins to be read; what is cached of it need not be."""
        self._prompt_tokens += sequence.prompt_tokens
        self._cached_tokens += sequence.cached

    def count_decode(self, took_s: float) -> None:
        """The library has decoded once."""
        self._decode_s += took_s

    def count_step(self, took_s: float) -> None:
        """A step is over."""
        self._steps += 1
        self._step_s += took_s

    def count_drawn(self, tokens: int, *, guessed: int, accepted: int) -> None:
        """A sequence got its tokens of a step."""
        self._completion_tokens += tokens
        self._drafted_tokens += guessed
        self._accepted_tokens += accepted

    def stats(self) -> ServingStats:
        """The sums as they are."""
        return ServingStats(
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self._completion_tokens,
            drafted_tokens=self._drafted_tokens,
            accepted_tokens=self._accepted_tokens,
            step_s=self._step_s,
            decode_s=self._decode_s,
        )
