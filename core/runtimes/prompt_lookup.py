"""Guess a sequence's next tokens from its own: what followed the last few tokens when they came before.

Pure. A guess costs a row of the next step, so a sequence that guesses badly rests for longer and longer.
"""

from __future__ import annotations

NGRAM = 3
MAX_REST = 64
# Text further back is rarely quoted, and learning it would hold up a step.
MAX_LEARNED = 16_384


class PromptLookup:
    """The n-grams of one sequence. most: how many tokens are guessed ahead at best."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._length = most
        self._after: dict[tuple[int, ...], int] = {}
        self._learned = 0
        self._misses = 0
        self._rest = 0

    def guess(self, tokens: list[int], room: int) -> list[int]:
        """What may come after these tokens, at most room of them; empty while it rests or knows nothing."""
        if self._rest > 0:
            self._rest -= 1
            return []
        if room <= 0 or len(tokens) <= NGRAM:
            return []
        self._learn(tokens)
        at = self._after.get(tuple(tokens[-NGRAM:]))
        if at is None:
            return []
        # where the text repeats itself, what is guessed follows from what was guessed
        period = len(tokens) - at
        return [tokens[at + ahead % period] for ahead in range(min(self._length, room))]

    def judge(self, guessed: int, accepted: int) -> None:
        """Hear how many of the guessed tokens came true."""
        if accepted == guessed:
            self._length = min(self._most, self._length * 2)
        else:
            self._length = max(1, accepted)
        if accepted > 0:
            self._misses = 0
            return
        self._misses += 1
        self._rest = min(MAX_REST, 2**self._misses)

    def _learn(self, tokens: list[int]) -> None:
        """Remember where each n-gram was last followed by something: all but the one at the end."""
        begin = max(self._learned, len(tokens) - MAX_LEARNED, NGRAM)
        for end in range(begin, len(tokens)):
            self._after[tuple(tokens[end - NGRAM : end])] = end
        self._learned = len(tokens)
