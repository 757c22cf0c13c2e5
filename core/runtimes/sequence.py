"""One job inside the batch: its tokens, how many of them are in the KV, and what it waits for.

Pure. Knows neither text nor sampling: the voice of a sequence does.
"""

from __future__ import annotations

import msgspec

from core.job import JobId
from core.runtimes.prompt_lookup import PromptLookup


class Sequence:
    """tokens are the prompt's, then each drawn one; fed of them are in the KV of its slot (-1: it has none).

    limit is the most completion tokens it may ever have, allowance the most for now (None: no such bound). cached of
    its prompt came from other prompts' KV. leader is reading `shared` tokens that this one will take over.
    """

    def __init__(
        self, job_id: JobId, prompt: list[int], *, limit: int, allowance: int | None = None, scope: str = ""
    ) -> None:
        self.job_id = job_id
        self.tokens = prompt
        self.prompt_tokens = len(prompt)
        self.limit = limit
        self.allowance = allowance
        self.scope = scope
        self.fed = 0
        self.read = 0
        self.slot = -1
        self.cached = 0
        self.drafted = 0
        self.accepted = 0
        self.leader: Sequence | None = None
        self.shared = 0
        self.has_begun = False
        self.is_preempted = False
        self.lookup: PromptLookup | None = None

    @property
    def completion_tokens(self) -> int:
        """Tokens drawn so far."""
        return len(self.tokens) - self.prompt_tokens

    @property
    def is_reading(self) -> bool:
        """True while more than its newest token is missing from the KV, or any of its prompt."""
        return self.fed < self.prompt_tokens or self.fed + 1 < len(self.tokens)

    @property
    def is_paused(self) -> bool:
        """True when its next token is not paid for yet."""
        return self.allowance is not None and self.completion_tokens >= self.allowance

    def due(self) -> int:
        """How many tokens could be fed now: the last one draws a token, so it waits while that is not allowed."""
        if self.leader is not None:
            return 0
        return len(self.tokens) - self.fed - (1 if self.is_paused else 0)

    def may_draw(self) -> int:
        """How many more tokens it may have now."""
        most = self.limit if self.allowance is None else min(self.limit, self.allowance)
        return most - self.completion_tokens

    def lose_kv(self) -> None:
        """Nothing of it is in the KV, although something should be: it is read again."""
        if self.read == self.cached:
            self.read = self.cached = 0
        self.fed = 0

    def advance(self, fed: int) -> None:
        """So many of its tokens are in the KV now."""
        self.fed = fed
        self.read = max(self.read, min(fed, self.prompt_tokens))


class Rows(msgspec.Struct, frozen=True):
    """A run of consecutive tokens of one sequence in the next step, then guesses of what comes after them.

    outputs: how many of the last rows give logits; the last 1 + guesses of them are drawn from, if it draws.
    """

    sequence: Sequence
    start: int
    count: int
    draws: bool
    outputs: int
    guesses: tuple[int, ...] = ()
