"""What a stranger's request may ask of the sampler and the tokenizer: anything else could stall or crash the child.

Pure. Says why a request is refused, in words for its requester.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.job import ChatMessage, Sampling

MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
MAX_TEMPERATURE = 10.0
# No vocabulary averages so many bytes a token: a longer prompt cannot fit and need not be read to know it.
MAX_BYTES_PER_TOKEN = 128


def sampling_refusal(sampling: Sampling) -> str:
    """Why this sampling cannot be run; empty when it can. NaN fails every comparison, and so is refused."""
    if not 0 <= sampling.temperature <= MAX_TEMPERATURE:
        return f"The temperature must be from 0 to {MAX_TEMPERATURE:.0f}."
    if not (0 <= sampling.top_p <= 1 and 0 <= sampling.min_p <= 1):
        return "top_p and min_p must be from 0 to 1."
    if not 0 <= sampling.top_k < 1 << 31:
        return "top_k must be 0 or more."
    if len(sampling.stop) > MAX_STOPS or any(len(s) > MAX_STOP_CHARACTERS for s in sampling.stop):
        return f"There may be {MAX_STOPS} stop strings of {MAX_STOP_CHARACTERS} characters each."
    return ""


def prompt_refusal(messages: Sequence[ChatMessage], context_tokens: int) -> str:
    """Why this conversation is not worth tokenizing; empty when it is."""
    if not messages:
        return "There are no messages."
    size = sum(len(m.content.encode("utf-8", "replace")) for m in messages)
    if size > MAX_BYTES_PER_TOKEN * context_tokens:
        return f"The prompt has {size} bytes; this worker reads at most {context_tokens - 1} tokens."
    return ""
