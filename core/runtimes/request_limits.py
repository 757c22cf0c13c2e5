"""What a stranger's request may ask of the sampler and the tokenizer: anything else could stall or crash the child.

Pure. Says why a request is refused, in words for its requester.
"""

from __future__ import annotations

import math

from core.job import Sampling
from core.worker.messages import Count, Generate

MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
MAX_TEMPERATURE = 10.0
MAX_REPEAT_PENALTY = 10.0
MAX_PENALTY = 2.0
MAX_PENALTY_TOKENS = 4096
MAX_BIASES = 1024
MAX_BIAS = 100.0
MAX_TOP_LOGPROBS = 20
MAX_TOKEN = 1 << 31
MAX_MESSAGES = 4096
ROLES = frozenset({"system", "user", "assistant"})
# No vocabulary averages so many bytes a token: a longer prompt cannot fit and need not be read to know it.
MAX_BYTES_PER_TOKEN = 128


def sampling_refusal(sampling: Sampling) -> str:
    """Why this sampling cannot be run; empty when it can. NaN fails every comparison, and so is refused."""
    return (
        _filters_refusal(sampling)
        or _penalties_refusal(sampling)
        or _bias_refusal(sampling)
        or _answer_refusal(sampling)
    )


def prompt_refusal(asked: Generate | Count, context_tokens: int) -> str:
    """Why this prompt is not worth tokenizing; empty when it is."""
    if not asked.messages and not asked.text:
        return "There are no messages."
    if asked.messages and asked.text:
        return "A request has messages or a text, not both."
    if len(asked.messages) > MAX_MESSAGES:
        return f"There may be {MAX_MESSAGES} messages."
    if any(m.role not in ROLES for m in asked.messages):
        return "A message's role must be system, user or assistant."
    size = sum(_byte_count(m.content) for m in asked.messages) + _byte_count(asked.text)
    if size > MAX_BYTES_PER_TOKEN * context_tokens:
        return f"The prompt has {size} bytes; this worker reads at most {context_tokens - 1} tokens."
    return ""


def _filters_refusal(sampling: Sampling) -> str:
    if not 0 <= sampling.temperature <= MAX_TEMPERATURE:
        return f"The temperature must be from 0 to {MAX_TEMPERATURE:.0f}."
    if not (0 <= sampling.top_p <= 1 and 0 <= sampling.min_p <= 1):
        return "top_p and min_p must be from 0 to 1."
    if not 0 <= sampling.top_k < 1 << 31:
        return "top_k must be 0 or more."
    return ""


def _penalties_refusal(sampling: Sampling) -> str:
    if not 1 / MAX_REPEAT_PENALTY <= sampling.repeat_penalty <= MAX_REPEAT_PENALTY:
        return f"The repeat penalty must be from {1 / MAX_REPEAT_PENALTY:.1f} to {MAX_REPEAT_PENALTY:.0f}."
    if not all(-MAX_PENALTY <= p <= MAX_PENALTY for p in (sampling.frequency_penalty, sampling.presence_penalty)):
        return f"Frequency and presence penalty must be from -{MAX_PENALTY:.0f} to {MAX_PENALTY:.0f}."
    if not 0 <= sampling.penalty_tokens <= MAX_PENALTY_TOKENS:
        return f"The penalties may look back on 0 to {MAX_PENALTY_TOKENS} tokens."
    return ""


def _bias_refusal(sampling: Sampling) -> str:
    """-infinity forbids a token; which tokens there are, the sampler knows."""
    if len(sampling.logit_bias) > MAX_BIASES:
        return f"The logit bias may name {MAX_BIASES} tokens."
    if not all(-MAX_BIAS <= bias <= MAX_BIAS or bias == -math.inf for _, bias in sampling.logit_bias):
        return f"A logit bias must be from -{MAX_BIAS:.0f} to {MAX_BIAS:.0f}."
    if not all(0 <= token < MAX_TOKEN for token, _ in sampling.logit_bias):
        return "The logit bias names tokens by numbers from 0 on."
    return ""


def _answer_refusal(sampling: Sampling) -> str:
    if len(sampling.stop) > MAX_STOPS or any(len(s) > MAX_STOP_CHARACTERS for s in sampling.stop):
        return f"There may be {MAX_STOPS} stop strings of {MAX_STOP_CHARACTERS} characters each."
    if sampling.json_schema and sampling.grammar:
        return "A request has a JSON schema or a grammar, not both."
    if sampling.ignore_eos and (sampling.json_schema or sampling.grammar):
        return "An answer that obeys a schema or grammar ends where that ends: it cannot ignore the end."
    if sampling.top_logprobs is not None and not 0 <= sampling.top_logprobs <= MAX_TOP_LOGPROBS:
        return f"There may be 0 to {MAX_TOP_LOGPROBS} log probabilities beside each token's own."
    return ""


def _byte_count(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
