"""How likely a drawn token was: natural log probabilities over the whole vocabulary, before any filter or penalty.

Pure arithmetic. This is what OpenAI's API and llama-server report.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from core.job import TokenLogprob

FEW = 40

Logits = npt.NDArray[np.float32]


def token_logprob(logits: Logits, token: int, *, top: int, piece: Callable[[int], bytes]) -> TokenLogprob:
    """The token's log probability, and those of the `top` most likely ones, likeliest first. logits: [vocabulary]."""
    highest = logits.max()
    norm = float(highest) + float(np.log(np.sum(np.exp(logits - highest), dtype=np.float64)))
    best = [(piece(other), float(logits[other]) - norm) for other in _most_likely(logits, top)]
    return TokenLogprob(piece(token), float(logits[token]) - norm, tuple(best))


def _most_likely(logits: Logits, top: int) -> list[int]:
    """Few are found fastest one by one: numpy finds one in microseconds, and parts a whole vocabulary in hundreds."""
    if top > FEW:
        sorted_all: list[int] = np.argsort(-logits, kind="stable")[:top].tolist()
        return sorted_all
    left = logits.copy()
    found: list[int] = []
    for _ in range(min(top, len(logits))):
        best = int(left.argmax())
        found.append(best)
        left[best] = -np.inf
    return found
