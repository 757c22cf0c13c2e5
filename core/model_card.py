"""What a model is: family, parameters, layers, heads, context, source file hash, and its variants (quantizations).

Never touches a file: model_store makes cards, everyone else reads them.
"""

from __future__ import annotations

import msgspec

MAX_NAME_CHARACTERS = 96


class ModelVariant(msgspec.Struct, frozen=True):
    """One quantization on disk. quantization is llama.cpp's name (F16, Q8_0, Q4_K_M); path is relative to the store."""

    quantization: str
    file_bytes: int
    sha256: str
    path: str


class ModelCard(msgspec.Struct, frozen=True):
    """The shape of one model, read from its GGUF header, and the files we have of it.

    model is the name that the swarm uses: lower case, digits, dot and hyphen. kv_width is the width of K plus V of one
    layer, in elements per token.
    """

    model: str
    title: str
    architecture: str
    parameters: int
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    kv_width: int
    vocabulary: int
    context_tokens: int
    source_sha256: str
    source_quantization: str
    license: str = ""
    variants: tuple[ModelVariant, ...] = ()

    def variant(self, quantization: str) -> ModelVariant | None:
        """The file of this quantization, if it is on disk."""
        return next((v for v in self.variants if v.quantization == quantization), None)


def added_text(card: ModelCard, *, is_new: bool) -> str:
    """What the owner is told after `models add`: the same weights are kept once, under their first name."""
    if is_new:
        return f"{card.title} is in the store as {card.model}."
    return f"{card.title} was in the store already, as {card.model}; nothing was copied."
