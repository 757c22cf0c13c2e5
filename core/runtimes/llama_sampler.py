"""Draw the next token of each sequence from the step's logits.

Greedy rows are one numpy argmax over the whole step (five times cheaper than the C sampler over a large vocabulary);
the others go through llama.cpp's sampler chain, one per sequence with its own seed. Never decides when to stop.
"""

from __future__ import annotations

import llama_cpp.llama_cpp as C  # noqa: N812

from core.job import Sampling

MIN_KEPT = 1


class SamplerChain:
    """One sequence's sampler in llama-server's order: top-k, top-p, min-p, temperature, draw. close frees it."""

    def __init__(self, sampling: Sampling) -> None:
        params = C.llama_sampler_chain_default_params()
        params.no_perf = True
        self._chain = C.llama_sampler_chain_init(params)
        for sampler in _samplers(sampling):
            C.llama_sampler_chain_add(self._chain, sampler)

    def draw(self, context: C.llama_context_p, row: int) -> int:
        """The next token from this row of the batch."""
        return int(C.llama_sampler_sample(self._chain, context, row))

    def close(self) -> None:
        """Free the chain."""
        if self._chain:
            C.llama_sampler_free(self._chain)
            self._chain = None


def open_sampler(sampling: Sampling) -> SamplerChain | None:
    """A chain, or None when the sequence is greedy."""
    return None if sampling.temperature <= 0 else SamplerChain(sampling)


def _samplers(sampling: Sampling) -> list[C.llama_sampler_p]:
    chain = []
    if sampling.top_k > 0:
        chain.append(C.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p < 1:
        chain.append(C.llama_sampler_init_top_p(sampling.top_p, MIN_KEPT))
    if sampling.min_p > 0:
        chain.append(C.llama_sampler_init_min_p(sampling.min_p, MIN_KEPT))
    chain.append(C.llama_sampler_init_temp(sampling.temperature))
    chain.append(C.llama_sampler_init_dist(sampling.seed & 0xFFFFFFFF))
    return chain
