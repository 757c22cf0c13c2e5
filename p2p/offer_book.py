"""The offers this peer knows: bounded, checked, and forgotten when they expire.

Pure: `now` is an argument. Never trusts whoever brought an offer: the offer's own peer must have signed it.
"""

from __future__ import annotations

import msgspec

from core.job import PeerId
from core.offer import Offer
from p2p.identity import is_signed_by
from p2p.messages import MAX_ADDRESS_CHARS, MAX_ADDRESSES, MAX_OFFERS_A_PEER, SignedOffer, offer_bytes

UNSIGNED = "The offer is not signed by its peer."
MAX_KNOWN = 4_096
MAX_ENDED = 256
MAX_LIFE_S = 3_600.0
MAX_SKEW_S = 120.0
MAX_NAME_CHARS = 128


def offer_fault(signed: SignedOffer, now: float) -> str | None:
    """Why this offer is not to be believed, or None."""
    offer = signed.offer
    if not now < offer.expires_at <= now + MAX_LIFE_S + MAX_SKEW_S:
        return "The offer is expired, or lives too long."
    if offer.issued_at > now + MAX_SKEW_S:
        return "The offer is from the future."
    if len(offer.model) > MAX_NAME_CHARS or min(offer.price.input_per_mtok, offer.price.output_per_mtok) < 0:
        return "The offer's model or price is out of bounds."
    if len(signed.addresses) > MAX_ADDRESSES or any(len(a) > MAX_ADDRESS_CHARS for a in signed.addresses):
        return "The offer has too many addresses."
    if not is_signed_by(PeerId(offer.peer_id), offer_bytes(offer), signature=signed.signature):
        return UNSIGNED
    return None


class OfferBook:
    """At most MAX_OFFERS_A_PEER models a peer and MAX_KNOWN in all; when it is full the soonest to expire goes."""

    def __init__(self, max_known: int = MAX_KNOWN) -> None:
        self._max_known = max_known
        self._offers: dict[tuple[str, str], SignedOffer] = {}
        self._ended: dict[tuple[str, str], Offer] = {}

    def __len__(self) -> int:
        return len(self._offers)

    def add(self, signed: SignedOffer, *, now: float) -> str | None:
        """Keep an offer; the fault if it is no good. An older one than we have changes nothing."""
        if fault := offer_fault(signed, now):
            return fault
        key = (signed.offer.peer_id, signed.offer.model)
        known = self._offers.get(key)
        if known is not None and _age(known.offer) > _age(signed.offer):
            return None
        if key in self._ended and _age(self._ended[key]) >= _age(signed.offer):
            return None
        self._drop_expired(now)
        if key not in self._offers:
            if sum(peer == signed.offer.peer_id for peer, _ in self._offers) >= MAX_OFFERS_A_PEER:
                return "The peer has too many offers."
            self._make_room()
        self._offers[key] = signed
        return None

    def end(self, signed: SignedOffer, *, now: float) -> str | None:
        """Heed a peer that takes its offer back by one that expires now; the fault if it is no good. Older copies of
        the offer are no news from then on."""
        offer = signed.offer
        if offer.expires_at > now + MAX_SKEW_S or len(offer.model) > MAX_NAME_CHARS:
            return "The offer does not end now."
        if not is_signed_by(PeerId(offer.peer_id), offer_bytes(offer), signature=signed.signature):
            return UNSIGNED
        key = (offer.peer_id, offer.model)
        known = self._offers.get(key)
        if known is not None and _age(known.offer) <= _age(offer):
            del self._offers[key]
            self._ended[key] = offer
            while len(self._ended) > MAX_ENDED:
                del self._ended[next(iter(self._ended))]
        return None

    def remove(self, peer_id: PeerId, model: str | None = None) -> None:
        """Forget one peer's offer of a model, or all its offers."""
        self._offers = {k: v for k, v in self._offers.items() if k[0] != peer_id or model not in (None, k[1])}

    def find(self, model: str | None, *, now: float) -> list[SignedOffer]:
        """The offers of a model (None: of any) that have not expired, the freshest first."""
        found = [s for s in self._offers.values() if model in (None, s.offer.model) and s.offer.expires_at > now]
        return sorted(found, key=lambda signed: signed.offer.issued_at, reverse=True)

    def _make_room(self) -> None:
        while len(self._offers) >= self._max_known:
            del self._offers[min(self._offers, key=lambda key: self._offers[key].offer.expires_at)]

    def _drop_expired(self, now: float) -> None:
        self._offers = {key: signed for key, signed in self._offers.items() if signed.offer.expires_at > now}


def freshest(offers: list[SignedOffer]) -> list[SignedOffer]:
    """One offer for each peer and model: the newest, with all addresses that any copy of it names."""
    newest: dict[tuple[str, str], SignedOffer] = {}
    for signed in offers:
        key = (signed.offer.peer_id, signed.offer.model)
        known = newest.get(key, signed)
        best = max(known, signed, key=lambda s: _age(s.offer))
        addresses = tuple(dict.fromkeys((*best.addresses, *known.addresses, *signed.addresses)))[:MAX_ADDRESSES]
        newest[key] = msgspec.structs.replace(best, addresses=addresses)
    return list(newest.values())


def _age(offer: Offer) -> tuple[int, float]:
    return offer.sequence, offer.issued_at
