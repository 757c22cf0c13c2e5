"""Which models an owner gives to other peers: a pure decision about cards and settings.

Never gives a damaged file, and by default none whose licence does not plainly allow anyone to hand it on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from core.model_card import ModelCard, ModelVariant
from core.settings import Settings, ShareModels

# SPDX names, lower case, of licences that let anyone hand the files on without asking or adding anything.
FREE_LICENSES = frozenset((
    "apache-2.0", "mit", "mit-0", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "zlib", "bsl-1.0", "0bsd",
    "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "odc-by", "pddl",
    "cdla-permissive-2.0", "artistic-2.0", "ecl-2.0", "afl-3.0", "wtfpl",
))  # fmt: skip


def is_free(license_name: str) -> bool:
    """Whether this licence, as a file's header names it, plainly allows handing the file on."""
    name = re.sub(r"[\s_]+", "-", license_name.strip().lower())
    return name in FREE_LICENSES


def may_give(card: ModelCard, settings: Settings) -> bool:
    """Whether the owner gives this model away."""
    match settings.share_models:
        case ShareModels.ALL:
            return True
        case ShareModels.FREE:
            return is_free(card.license)
        case ShareModels.NONE:
            return False


def given(cards: Iterable[ModelCard], settings: Settings) -> tuple[tuple[ModelCard, ModelVariant], ...]:
    """Every variant that is given away."""
    return tuple(
        (card, variant)
        for card in cards
        if may_give(card, settings)
        for variant in card.variants
        if not variant.damaged and variant.sha256
    )
