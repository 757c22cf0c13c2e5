"""What may leave the store when it is over its cap, and in which order: a pure decision.

Never deletes anything. What can be made again goes first, the longest unused of it first; then what can be fetched
again; a model with no other copy only if the owner allows it; what is being served never.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from core.model_card import ModelCard, ModelVariant
from core.settings import Settings

GIGABYTE = 1_000_000_000

Held = frozenset[tuple[str, str]]


class ShelfRules(msgspec.Struct, frozen=True):
    """cap_bytes is how much the model files may take together (None: what the disk gives). may_drop_sources: even a
    model that may have no other copy may go."""

    cap_bytes: int | None = None
    may_drop_sources: bool = False


class Dropped(msgspec.Struct, frozen=True):
    """One thing to let go: a variant, or (quantization empty) a model with its source; and how to have it back."""

    model: str
    quantization: str
    file_bytes: int
    used_at: float
    remedy: str


def shelf_rules(settings: Settings) -> ShelfRules:
    """The owner's rules."""
    cap = settings.storage_cap_gb
    return ShelfRules(int(cap * GIGABYTE) if cap else None, settings.drop_only_copies)


def total_bytes(cards: Iterable[ModelCard]) -> int:
    """What all files of the store take together."""
    return sum(variant.file_bytes for card in cards for variant in card.variants)


def drop_order(cards: Iterable[ModelCard], rules: ShelfRules, *, held: Held) -> tuple[Dropped, ...]:
    """Everything that may go, in the order in which it goes. held: (model, quantization) of what is being served."""
    cards = tuple(cards)
    variants = [_variant(card, v) for card in cards for v in card.variants if _is_remakeable(card, v, held=held)]
    models = [card for card in cards if not any(name == card.model for name, _ in held)]
    fetched = [_model(card, f"starling models install {card.origin}") for card in models if card.origin]
    only = [_model(card, "") for card in models if not card.origin and rules.may_drop_sources]
    return tuple(drop for kind in (variants, fetched, only) for drop in sorted(kind, key=lambda d: d.used_at))


def to_drop(
    cards: Iterable[ModelCard], needed_bytes: int, *, rules: ShelfRules, held: Held, keep: str = ""
) -> tuple[Dropped, ...] | None:
    """What must go for so much more to come in under the cap: nothing, some of drop_order, or None when even all of it
    is too little. keep: the model that it comes in for, whose source stays."""
    cards = tuple(cards)
    if rules.cap_bytes is None:
        return ()
    over = total_bytes(cards) + needed_bytes - rules.cap_bytes
    chosen: list[Dropped] = []
    for drop in drop_order(cards, rules, held=held):
        if over <= 0:
            break
        if drop.model == keep and not drop.quantization:
            continue
        freed = _freed(drop, chosen)
        chosen.append(drop)
        over -= freed
    return tuple(chosen) if over <= 0 else None


def _is_remakeable(card: ModelCard, variant: ModelVariant, *, held: Held) -> bool:
    source = card.source
    if variant.quantization == card.source_quantization or (card.model, variant.quantization) in held:
        return False
    return source is not None and not source.damaged


def _variant(card: ModelCard, variant: ModelVariant) -> Dropped:
    remedy = f"starling models quantize {card.model} {variant.quantization}"
    return Dropped(card.model, variant.quantization, variant.file_bytes, variant.used_at, remedy)


def _model(card: ModelCard, remedy: str) -> Dropped:
    size = sum(variant.file_bytes for variant in card.variants)
    return Dropped(card.model, "", size, max((v.used_at for v in card.variants), default=0.0), remedy)


def _freed(drop: Dropped, before: list[Dropped]) -> int:
    """A model frees what of it has not gone before."""
    if drop.quantization:
        return drop.file_bytes
    return drop.file_bytes - sum(d.file_bytes for d in before if d.model == drop.model)
