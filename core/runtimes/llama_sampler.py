"""Draw the next token of each sequence from the step's logits.

Greedy rows are one numpy argmax over the whole step (five times cheaper than the C sampler over a large vocabulary);
the others go through llama.cpp's sampler chain, one per sequence with its own seed. Never decides when to stop.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import llama_cpp.llama_cpp as C  # noqa: N812
import numpy as np
import numpy.typing as npt

from core.job import Sampling
from core.runtimes.grammar import Grammar, open_grammar
from core.runtimes.llama_model import LlamaModel
from core.runtimes.logit_adjustment import Adjustment, has_penalties
from core.runtimes.logit_bias import NOTHING_LEFT, bias_of
from core.runtimes.runtime import RuntimeFault
from core.worker.messages import FaultKind

MIN_KEPT = 1
NUCLEUS_ROOM = 1024
NUCLEUS_SPARE = 1e-4
CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

Logits = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]


class SamplerChain:
    """One sequence's sampler, in llama-server's order: bias, penalties, top-k, top-p, min-p, temperature, draw.

    It keeps its state while its sequence has no slot. close frees it.
    """

    def __init__(self, sampling: Sampling, model: LlamaModel) -> None:
        self._size = model.vocabulary
        ends = model.ends.tolist()
        bias = bias_of(sampling, size=model.vocabulary, ends=ends, suppressed=model.suppressed)
        self._adjustment = Adjustment(sampling, bias)
        self._grammar = _grammar(sampling, model)
        self._chain = None if sampling.temperature <= 0 else _open_chain(sampling)
        self._nucleus = sampling.top_p if sampling.top_k == 0 and 0 < sampling.top_p < 1 else None
        self._candidates = _Candidates(self._size) if self._needs_candidates() else None
        self._sample = C.llama_sampler_sample
        # the binding's own function makes a new pointer object a call
        self._logits_at = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)(
            ("llama_get_logits_ith", C._lib)
        )
        self._row_type = ctypes.c_float * self._size

    def accept_prompt(self, tokens: Sequence[int]) -> None:
        """Let the penalties know the prompt, as llama-server does; before the first draw."""
        self._adjustment.heed(tokens)

    def draw(self, context: C.llama_context_p, row: int) -> int:
        """The next token from this row of the batch, which then counts as said. The row's logits stay as they were.

        Raises RuntimeFault when its grammar or bias leaves nothing to say: this sequence fails, no other.
        """
        if self._candidates is None and self._adjustment.is_empty and self._chain is not None:
            return int(self._sample(self._chain, context, row))
        logits = self._row(context, row)
        concerned, before = self._adjustment.apply(logits)
        try:
            token = self._draw_by(logits, context=context, row=row)
        finally:
            logits[concerned] = before
        self._adjustment.heed((token,))
        return token

    def close(self) -> None:
        """Free the chain."""
        if self._chain is not None:
            C.llama_sampler_free(self._chain)
            self._chain = None

    def _needs_candidates(self) -> bool:
        return self._chain is not None and (self._grammar is not None or self._nucleus is not None)

    def _row(self, context: C.llama_context_p, row: int) -> Logits:
        address = self._logits_at(context, row)
        if not address:
            raise RuntimeFault(FaultKind.INTERNAL, "llama.cpp has no logits for this row.")
        logits: Logits = np.frombuffer(memoryview(self._row_type.from_address(address)), np.float32)
        return logits

    def _draw_by(self, logits: Logits, *, context: C.llama_context_p, row: int) -> int:
        """Draw freely, and only when the grammar refuses that token, among those that it allows (llama-server's way:
        most draws obey anyway, and one token is a thousand times quicker to check than a vocabulary)."""
        if self._grammar is None and self._candidates is None and self._chain is not None:
            return int(self._sample(self._chain, context, row))
        token = self._pick(logits)
        if self._grammar is None:
            return token
        if not self._grammar.allows(token):
            allowed = np.where(self._grammar.mask(), logits, np.float32(-np.inf))
            token = self._pick(allowed)
            if allowed[token] == -np.inf:
                raise RuntimeFault(FaultKind.BAD_REQUEST, NOTHING_LEFT)
        self._grammar.accept(token)
        return token

    def _pick(self, logits: Logits) -> int:
        if self._candidates is None or self._chain is None:
            return int(np.argmax(logits))
        few = None if self._nucleus is None else _most_likely(logits, self._nucleus)
        return self._candidates.draw(self._chain, logits, few=few)


def open_sampler(sampling: Sampling, model: LlamaModel) -> SamplerChain | None:
    """A chain, or None when the sequence is plainly greedy: then its token is the argmax of its row, but for the end
    where the sampling ignores it. Raises RuntimeFault (BAD_REQUEST)."""
    is_plain = sampling.temperature <= 0 and not (sampling.logit_bias or sampling.json_schema or sampling.grammar)
    if is_plain and not has_penalties(sampling) and not model.suppressed:
        return None
    return SamplerChain(sampling, model)


class _Candidates:
    """A reused llama_token_data_array with room for the whole vocabulary."""

    def __init__(self, size: int) -> None:
        self._ids = np.arange(size, dtype=np.int32)
        self._rows = np.zeros(size, CANDIDATE)
        self._array = C.llama_token_data_array()
        self._pointer = ctypes.pointer(self._array)
        self._data = ctypes.cast(self._rows.ctypes.data, C.llama_token_data_p)

    def draw(self, chain: C.llama_sampler_p, logits: Logits, *, few: Tokens | None) -> int:
        """One pass of the chain over these logits, or over those of a few tokens alone."""
        tokens = self._ids if few is None else few
        count = len(tokens)
        self._rows["id"][:count] = tokens
        self._rows["logit"][:count] = logits if few is None else logits[few]
        array = self._array
        array.data, array.size, array.selected, array.sorted = self._data, count, -1, False
        C.llama_sampler_apply(chain, self._pointer)
        if not 0 <= array.selected < array.size:
            raise RuntimeFault(FaultKind.BAD_REQUEST, NOTHING_LEFT)
        return int(array.data[array.selected].id)


def _most_likely(logits: Logits, top_p: float) -> Tokens | None:
    """The tokens among which top_p would choose anyway, rising; None when that takes too many to be worth it.

    llama.cpp sorts the whole vocabulary for top_p without top_k, thirty times the price of a draw.
    """
    if len(logits) <= NUCLEUS_ROOM:
        return None
    few = np.argpartition(logits, len(logits) - NUCLEUS_ROOM)[len(logits) - NUCLEUS_ROOM :]
    odds = np.exp(logits - logits[few].max())
    is_enough = odds[few].sum(dtype=np.float64) > (top_p + NUCLEUS_SPARE) * odds.sum(dtype=np.float64)
    return np.sort(few) if is_enough else None


def _grammar(sampling: Sampling, model: LlamaModel) -> Grammar | None:
    if not (sampling.json_schema or sampling.grammar):
        return None
    return open_grammar(sampling, model.grammar_words)


def _open_chain(sampling: Sampling) -> C.llama_sampler_p:
    params = C.llama_sampler_chain_default_params()
    params.no_perf = True
    chain = C.llama_sampler_chain_init(params)
    if sampling.top_k > 0:
        C.llama_sampler_chain_add(chain, C.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p < 1:
        C.llama_sampler_chain_add(chain, C.llama_sampler_init_top_p(sampling.top_p, MIN_KEPT))
    if sampling.min_p > 0:
        C.llama_sampler_chain_add(chain, C.llama_sampler_init_min_p(sampling.min_p, MIN_KEPT))
    C.llama_sampler_chain_add(chain, C.llama_sampler_init_temp(sampling.temperature))
    C.llama_sampler_chain_add(chain, C.llama_sampler_init_dist(sampling.seed & 0xFFFFFFFF))
    return chain
