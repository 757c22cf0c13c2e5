"""Shapes of well-known sizes of models, to plan for one that is not on disk.

A table. The figures are of the published configurations named beside them; only the shape counts, not the weights.
"""

from __future__ import annotations

from core.model_card import ModelCard

_VOCABULARY_LLAMA, _VOCABULARY_QWEN = 128_256, 152_064
# size: parameters, layers, hidden, feed forward, heads, KV heads, width of a head, vocabulary
_SHAPES = {
    "1b": (1_236_000_000, 16, 2048, 8192, 32, 8, 64, _VOCABULARY_LLAMA),  # Llama 3.2 1B
    "3b": (3_213_000_000, 28, 3072, 8192, 24, 8, 128, _VOCABULARY_LLAMA),  # Llama 3.2 3B
    "8b": (8_030_000_000, 32, 4096, 14_336, 32, 8, 128, _VOCABULARY_LLAMA),  # Llama 3.1 8B
    "14b": (14_770_000_000, 48, 5120, 13_824, 40, 8, 128, _VOCABULARY_QWEN),  # Qwen2.5 14B
    "32b": (32_760_000_000, 64, 5120, 27_648, 40, 8, 128, _VOCABULARY_QWEN),  # Qwen2.5 32B
    "70b": (70_550_000_000, 80, 8192, 28_672, 64, 8, 128, _VOCABULARY_LLAMA),  # Llama 3.1 70B
}
CONTEXT_TOKENS = 32_768


def shape_card(size: str) -> ModelCard:
    """The card of a dense model of this size in F16, without files. Raises KeyError for an unknown size."""
    parameters, layers, hidden, feed_forward, heads, kv_heads, width, vocabulary = _SHAPES[size]
    return ModelCard(
        model=f"shape-{size}",
        title=f"a model of {size.removesuffix('b')} billion weights",
        architecture="llama",
        parameters=parameters,
        layers=layers,
        hidden=hidden,
        feed_forward=feed_forward,
        heads=heads,
        kv_heads=kv_heads,
        kv_width=2 * kv_heads * width,
        vocabulary=vocabulary,
        context_tokens=CONTEXT_TOKENS,
        source_sha256="",
        source_quantization="F16",
    )
