"""What a request adds to and takes from logits before any filter: bias, then penalties, as llama.cpp does it.

Pure arithmetic on the few tokens that it concerns: llama.cpp's own penalties ask for every token of the vocabulary
whether it was said, which costs five times a whole draw. Never looks at what cannot be said.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from core.job import Sampling

Logits = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]


class Adjustment:
    """One sequence's: it remembers the last penalty_tokens tokens."""

    def __init__(self, sampling: Sampling, bias: Mapping[int, float]) -> None:
        self._biased = np.array(list(bias), np.int64)
        self._bias = np.array(list(bias.values()), np.float32)
        self._repeat = np.float32(sampling.repeat_penalty)
        self._frequency = np.float32(sampling.frequency_penalty)
        self._presence = np.float32(sampling.presence_penalty)
        self._penalizes = has_penalties(sampling)
        self._last: deque[int] = deque(maxlen=sampling.penalty_tokens if self._penalizes else 0)
        self._counts: Counter[int] = Counter()

    @property
    def is_empty(self) -> bool:
        """True when it never changes a logit."""
        return not self._penalizes and len(self._biased) == 0

    def heed(self, tokens: Sequence[int]) -> None:
        """These have been said."""
        if not self._penalizes:
            return
        for token in tokens[-(self._last.maxlen or 0) :]:
            if len(self._last) == self._last.maxlen:
                self._forget(self._last[0])
            self._last.append(token)
            self._counts[token] += 1

    def apply(self, logits: Logits) -> tuple[Tokens, Logits]:
        """Adjust a row in place, float32 [vocabulary]; which tokens it concerned, and what they had been."""
        said = np.fromiter(self._counts, np.int64, len(self._counts))
        concerned = np.concatenate((self._biased, said))
        before = logits[concerned]
        if len(self._biased):
            logits[self._biased] += self._bias
        if len(said):
            often = np.fromiter(self._counts.values(), np.float32, len(said))
            found = logits[said]
            found = np.where(found <= 0, found * self._repeat, found / self._repeat)
            logits[said] = found - (often * self._frequency + self._presence)
        return concerned, before

    def _forget(self, token: int) -> None:
        self._counts[token] -= 1
        if self._counts[token] == 0:
            del self._counts[token]


def has_penalties(sampling: Sampling) -> bool:
    """Does it take anything from tokens that were said?"""
    is_any = sampling.repeat_penalty != 1 or sampling.frequency_penalty != 0 or sampling.presence_penalty != 0
    return is_any and sampling.penalty_tokens > 0
