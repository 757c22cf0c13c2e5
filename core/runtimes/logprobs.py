"""How likely a drawn token was: natural log probabilities over the whole vocabulary, before any filter or penalty.

Pure arithmetic. This is what OpenAI's API and llama-server report.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from core.job import TokenLogprob

Logits = npt.NDArray[np.float32]


def token_logprob(logits: Logits, token: int, *, top: int, piece: Callable[[int], bytes]) -> TokenLogprob:
    """The token's log probability, and those of the `top` most likely ones, likeliest first. logits: [vocabulary]."""
    highest = logits.max()
    norm = float(highest) + float(np.log(np.sum(np.exp(logits - highest), dtype=np.float64)))
    best = [(piece(other), float(logits[other]) - norm) for other in _most_likely(logits, top)]
    return TokenLogprob(piece(token), float(logits[token]) - norm, tuple(best))


def _most_likely(logits: Logits, top: int) -> list[int]:
    count = min(top, len(logits))
    if count <= 0:
        return []
    found = np.argpartition(logits, len(logits) - count)[len(logits) - count :]
    order: list[int] = found[np.argsort(-logits[found], kind="stable")].tolist()
    return order
