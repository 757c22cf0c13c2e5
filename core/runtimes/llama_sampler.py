"""Draw the next token of each sequence from the step's logits.

Greedy rows are one numpy argmax over the whole step (five times cheaper than the C sampler over a large vocabulary);
the others go through llama.cpp's sampler chain, one per sequence with its own seed. Never decides when to stop.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import llama_cpp.llama_cpp as C  # noqa: N812
import numpy as np
import numpy.typing as npt

from core.job import Sampling
from core.runtimes.grammar import Grammar, open_grammar
from core.runtimes.llama_model import LlamaModel
from core.runtimes.runtime import RuntimeFault
from core.worker.messages import FaultKind

MIN_KEPT = 1
CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
NOTHING_LEFT = "The grammar, schema or logit bias leaves no token to choose from."

Logits = npt.NDArray[np.float32]


class SamplerChain:
    """One sequence's sampler, in llama-server's order: bias, penalties, top-k, top-p, min-p, temperature, draw.

    It keeps its state while its sequence has no slot. close frees it.
    """

    def __init__(self, sampling: Sampling, model: LlamaModel) -> None:
        bias = _bias(sampling, model)
        self._grammar = _grammar(sampling, model)
        params = C.llama_sampler_chain_default_params()
        params.no_perf = True
        self._chain = C.llama_sampler_chain_init(params)
        for sampler in _samplers(sampling, model, bias=bias):
            C.llama_sampler_chain_add(self._chain, sampler)
        self._remembers = _has_penalties(sampling)
        self._kept_tokens = sampling.penalty_tokens
        self._sample, self._accept = C.llama_sampler_sample, C.llama_sampler_accept
        self._candidates = _Candidates(model.vocabulary) if self._grammar is not None else None

    def accept_prompt(self, tokens: Sequence[int]) -> None:
        """Let the penalties know the prompt, as llama-server does; before the first draw."""
        if self._remembers:
            for token in tokens[-self._kept_tokens :]:
                self._accept(self._chain, token)

    def draw(self, context: C.llama_context_p, row: int) -> int:
        """The next token from this row of the batch, which then counts as said.

        Raises RuntimeFault when its grammar or bias leaves nothing to say: this sequence fails, no other.
        """
        if self._grammar is None or self._candidates is None:
            return int(self._sample(self._chain, context, row))
        token = self._draw_by(self._grammar, self._candidates, logits=_logits(context, row, size=self._candidates.size))
        self._accept(self._chain, token)
        self._grammar.accept(token)
        return token

    def close(self) -> None:
        """Free the chain."""
        if self._chain:
            C.llama_sampler_free(self._chain)
            self._chain = None

    def _draw_by(self, grammar: Grammar, candidates: _Candidates, *, logits: Logits) -> int:
        """Draw freely, and only when the grammar refuses that token, among those that it allows (llama-server's way:
        most draws obey anyway, and one token is a thousand times quicker to check than a vocabulary)."""
        token, _ = candidates.draw(self._chain, logits)
        if grammar.allows(token):
            return token
        token, logit = candidates.draw(self._chain, np.where(grammar.mask(), logits, np.float32(-np.inf)))
        if not math.isfinite(logit):
            raise RuntimeFault(FaultKind.BAD_REQUEST, NOTHING_LEFT)
        return token


def open_sampler(sampling: Sampling, model: LlamaModel) -> SamplerChain | None:
    """A chain, or None when the sequence is plainly greedy: then its token is the argmax of its row, with mask_ends
    before it where the sampling ignores the end. Raises RuntimeFault (BAD_REQUEST)."""
    is_plain = sampling.temperature <= 0 and not (sampling.logit_bias or sampling.json_schema or sampling.grammar)
    if is_plain and not _has_penalties(sampling) and not model.suppressed:
        return None
    return SamplerChain(sampling, model)


def mask_ends(logits: Logits, model: LlamaModel) -> None:
    """Take the tokens that end the model's turn out of a row (or rows): float32 [..., vocabulary], in place."""
    logits[..., model.ends] = -np.inf


class _Candidates:
    """A reused llama_token_data_array over the whole vocabulary."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._ids = np.arange(size, dtype=np.int32)
        self._rows = np.zeros(size, CANDIDATE)
        self._array = C.llama_token_data_array()
        self._pointer = ctypes.pointer(self._array)
        self._data = ctypes.cast(self._rows.ctypes.data, C.llama_token_data_p)

    def draw(self, chain: C.llama_sampler_p, logits: Logits) -> tuple[int, float]:
        """One pass of the chain over these logits: the token drawn, and its logit behind all filters."""
        self._rows["id"] = self._ids
        self._rows["logit"] = logits
        array = self._array
        array.data, array.size, array.selected, array.sorted = self._data, self.size, -1, False
        C.llama_sampler_apply(chain, self._pointer)
        if not 0 <= array.selected < array.size:
            raise RuntimeFault(FaultKind.BAD_REQUEST, NOTHING_LEFT)
        drawn = array.data[array.selected]
        return int(drawn.id), float(drawn.logit)


def _logits(context: C.llama_context_p, row: int, *, size: int) -> Logits:
    return np.ctypeslib.as_array(C.llama_get_logits_ith(context, row), shape=(size,))


def _grammar(sampling: Sampling, model: LlamaModel) -> Grammar | None:
    if not (sampling.json_schema or sampling.grammar):
        return None
    return open_grammar(sampling, model.grammar_words)


def _bias(sampling: Sampling, model: LlamaModel) -> dict[int, float]:
    """What is added to which token's logit; never to all of them at once minus infinity."""
    bias = dict.fromkeys(model.suppressed, -math.inf)
    for token, added in sampling.logit_bias:
        if not 0 <= token < model.vocabulary:
            raise RuntimeFault(FaultKind.BAD_REQUEST, f"The model has no token {token}, which the logit bias names.")
        bias[token] = bias.get(token, 0.0) + added
    if sampling.ignore_eos:
        bias |= dict.fromkeys(model.ends.tolist(), -math.inf)
    if sum(added == -math.inf for added in bias.values()) >= model.vocabulary:
        raise RuntimeFault(FaultKind.BAD_REQUEST, NOTHING_LEFT)
    return bias


def _has_penalties(sampling: Sampling) -> bool:
    is_any = sampling.repeat_penalty != 1 or sampling.frequency_penalty != 0 or sampling.presence_penalty != 0
    return is_any and sampling.penalty_tokens > 0


def _samplers(sampling: Sampling, model: LlamaModel, *, bias: dict[int, float]) -> list[C.llama_sampler_p]:
    chain = []
    if bias:
        biases = (C.llama_logit_bias * len(bias))(*bias.items())
        chain.append(C.llama_sampler_init_logit_bias(model.vocabulary, len(bias), biases))
    if _has_penalties(sampling):
        strength = sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty
        chain.append(C.llama_sampler_init_penalties(model.vocabulary, sampling.penalty_tokens, *strength))
    if sampling.temperature <= 0:
        return [*chain, C.llama_sampler_init_greedy()]
    if sampling.top_k > 0:
        chain.append(C.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p < 1:
        chain.append(C.llama_sampler_init_top_p(sampling.top_p, MIN_KEPT))
    if sampling.min_p > 0:
        chain.append(C.llama_sampler_init_min_p(sampling.min_p, MIN_KEPT))
    chain.append(C.llama_sampler_init_temp(sampling.temperature))
    chain.append(C.llama_sampler_init_dist(sampling.seed & 0xFFFFFFFF))
    return chain
