"""What a model is: family, parameters, layers, heads, context, source file hash, and its variants (quantizations).

Never touches a file: the store makes cards, everyone else reads them.
"""

from __future__ import annotations

import msgspec

MAX_NAME_CHARACTERS = 96


class ModelFile(msgspec.Struct, frozen=True):
    """One file of a variant; path is relative to the store."""

    path: str
    file_bytes: int
    sha256: str


class ModelVariant(msgspec.Struct, frozen=True):
    """One quantization on disk. quantization is llama.cpp's name (F16, Q8_0, Q4_K_M); path is relative to the store.

    A variant in several shards has its first one as path, all of them in shards, their sum as file_bytes, and as sha256
    that of their hashes one after another. A path may also be a folder. used_at and checked_at are seconds since the
    epoch (0: never); damaged names the files that were not what they had been when they were last checked.
    """

    quantization: str
    file_bytes: int
    sha256: str
    path: str
    shards: tuple[ModelFile, ...] = ()
    used_at: float = 0.0
    checked_at: float = 0.0
    damaged: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """Every file of it, in order."""
        return self.shards or (ModelFile(self.path, self.file_bytes, self.sha256),)


class ModelCard(msgspec.Struct, frozen=True):
    """The shape of one model, read from its GGUF header, and the files we have of it.

    model is the name that the swarm uses: lower case, digits, dot and hyphen. kv_width is the width of K plus V of one
    layer, in elements per token. origin is where the source can be had again, as `models install` takes it; empty: the
    store's file may be the only one.
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
    origin: str = ""

    def variant(self, quantization: str) -> ModelVariant | None:
        """The file of this quantization, if it is on disk."""
        return next((v for v in self.variants if v.quantization == quantization), None)

    @property
    def source(self) -> ModelVariant | None:
        """What the other variants are made from."""
        return self.variant(self.source_quantization)


def with_variant(card: ModelCard, variant: ModelVariant) -> ModelCard:
    """The card with this variant in the place of its namesake, or at the end."""
    if card.variant(variant.quantization) is None:
        return msgspec.structs.replace(card, variants=(*card.variants, variant))
    kept = tuple(variant if v.quantization == variant.quantization else v for v in card.variants)
    return msgspec.structs.replace(card, variants=kept)


def added_text(card: ModelCard, *, is_new: bool) -> str:
    """What the owner is told after `models add`: the same weights are kept once, under their first name."""
    if is_new:
        return f"{card.title} is in the store as {card.model}."
    return f"{card.title} was in the store already, as {card.model}; nothing was copied."


def damage_text(card: ModelCard, variant: ModelVariant) -> str:
    """Which files are not what they were, and how to get them back; empty for a whole variant."""
    if not variant.damaged:
        return ""
    what = f"{', '.join(variant.damaged)} of {card.model} {'is' if len(variant.damaged) == 1 else 'are'} damaged"
    if variant.quantization != card.source_quantization:
        return f"{what}. `starling models quantize {card.model} {variant.quantization}` makes it again from the source."
    if card.origin:
        return f"{what}. `starling models install {card.origin}` fetches it again."
    return f"{what}. Add the whole file again with `starling models add FILE`, or remove the model."
