"""Which peers to ask for a job, and whose quote to take (scheduling.md, "Across peers").

Pure: randomness comes in as a function. Sampling in proportion to capacity keeps requesters from running to one peer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from core.job import PeerId
from core.offer import Offer, Quote

ASKED = 3

Reputation = Callable[[PeerId], float]
"""Measured over quoted time, 1 for a stranger (p2p.peer_score)."""

Draw = Callable[[], float]
"""A number from 0 up to 1, another each time."""


def sample(
    offers: Sequence[Offer], *, reputation: Reputation, draw: Draw, bid_per_mtok: int = 0, k: int = ASKED
) -> list[Offer]:
    """Up to k offers that the bid covers (0: any price), drawn without replacement by capacity over reputation^2."""
    affordable = [offer for offer in offers if bid_per_mtok == 0 or offer.price.output_per_mtok <= bid_per_mtok]
    # Efraimidis and Spirakis: the k largest u^(1/w) are a weighted sample without replacement.
    keyed = [(draw() ** (1 / _weight(offer, reputation)), offer.peer_id, offer) for offer in affordable]
    return [offer for _, _, offer in sorted(keyed, key=lambda entry: entry[:2], reverse=True)[:k]]


def choose(quotes: Mapping[PeerId, Quote], *, reputation: Reputation, bid_per_mtok: int = 0) -> PeerId | None:
    """Whose quote to take: the soonest first token, as far as the peer is believed, at a price within the bid."""
    affordable = [
        (quote.ttft_p90_s * reputation(peer_id), peer_id)
        for peer_id, quote in quotes.items()
        if bid_per_mtok == 0 or quote.price.output_per_mtok <= bid_per_mtok
    ]
    return min(affordable)[1] if affordable else None


def _weight(offer: Offer, reputation: Reputation) -> float:
    capacity = max(offer.decode_tokens_per_s * offer.slots, 1e-6)
    return float(capacity / reputation(PeerId(offer.peer_id)) ** 2)
