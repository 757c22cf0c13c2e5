"""The peers that this one has heard of: where each may be dialled, who said so, and how dialling it went.

Pure and bounded: `now` (seconds since the epoch) is an argument. Whoever floods it with strangers only pushes out
strangers of its own: peers that were reached and pinned ones stay.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

import msgspec

from core.job import PeerId
from p2p.peer_address import MAX_ADDRESSES, groups_of, ips_of, is_plausible
from p2p.peer_record import SignedRecord

GIVEN_UP_AFTER = 8
FORGOTTEN_AFTER_S = 3 * 86_400.0
ONE_SUCCESS_EVERY_S = 3_600.0
PINNED_FROM = 2
PINNED_A_GROUP = 2
HANDED_ON_FOR_S = 3_600.0
FOREIGN_S = 600.0
DAY_S = 86_400.0


class Source(StrEnum):
    """Where a peer was learned."""

    NETWORK_FILE = "network file"
    LAN = "LAN"
    EXCHANGE = "peers"
    DHT = "DHT"
    INBOUND = "inbound"


class Heard(msgspec.Struct, frozen=True):
    """Word of a peer. teller: who said so (a neighbourhood or a peer id), empty for our own eyes and files."""

    peer_id: PeerId
    addresses: tuple[str, ...]
    source: Source
    teller: str = ""
    record: SignedRecord | None = None


class KnownPeer(msgspec.Struct, frozen=True):
    """One peer in the book; times are seconds since the epoch, 0 for never. proven: the address that was reached last.
    successes count at most once an hour."""

    peer_id: PeerId
    addresses: tuple[str, ...]
    sources: tuple[Source, ...]
    teller: str = ""
    record: SignedRecord | None = None
    proven: str = ""
    heard_at: float = 0.0
    success_at: float = 0.0
    try_at: float = 0.0
    failures: int = 0
    successes: int = 0

    @property
    def is_given(self) -> bool:
        """Whether the network file names it: never forgotten."""
        return Source.NETWORK_FILE in self.sources


class BookLimits(msgspec.Struct, frozen=True):
    """How many peers: in all, of one IP, of one /24 (IPv6 /48), brought by one teller, and pinned. Loopback addresses
    count for none."""

    total: int = 1_024
    per_ip: int = 16
    per_group: int = 64
    per_teller: int = 128
    pinned: int = 16


class AddressBook:
    """Everyone we have heard of. own: our id, which is never kept."""

    def __init__(self, own: PeerId, *, limits: BookLimits = BookLimits()) -> None:  # noqa: B008
        self._own = own
        self._limits = limits
        self._known: dict[PeerId, KnownPeer] = {}
        self._places: dict[PeerId, tuple[str, ...]] = {}
        self._taken: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, peer_id: PeerId) -> KnownPeer | None:
        """What is known of this peer."""
        return self._known.get(peer_id)

    def peers(self) -> tuple[KnownPeer, ...]:
        """Everyone, in no order."""
        return tuple(self._known.values())

    def lot(self, known: KnownPeer) -> int:
        """A number drawn for a peer, another one at each of those who know it: equals are not dialled by all alike."""
        return zlib.crc32(f"{self._own}{known.peer_id}".encode())

    def hear(self, heard: Heard, *, now: float) -> bool:
        """Take word of a peer; False when there is no room for it, or nothing to dial. A record must have been checked
        (peer_record.record_fault)."""
        known = self._known.get(heard.peer_id)
        if heard.peer_id == self._own:
            return False
        if known is not None:
            return self._keep(_merged(known, heard, now=now))
        if not any(map(is_plausible, heard.addresses)):
            return False
        empty = KnownPeer(heard.peer_id, (), (), heard.teller)
        newcomer = _merged(empty, heard, now=now)
        return self._make_room(newcomer, now) and self._keep(newcomer)

    def restore(self, peers: Iterable[KnownPeer], *, now: float) -> None:
        """Take up what a book held before, as far as there is room."""
        for known in peers:
            addresses = tuple(filter(is_plausible, known.addresses))[:MAX_ADDRESSES]
            if known.peer_id in (self._own, *self._known) or not addresses:
                continue
            kept = msgspec.structs.replace(known, addresses=addresses, try_at=0.0, failures=min(known.failures, 1))
            if self._make_room(kept, now):
                self._keep(kept)

    def succeeded(self, peer_id: PeerId, address: str = "", *, now: float) -> None:
        """We are connected to this peer; address: the one that was dialled, where we know."""
        if (known := self._known.get(peer_id)) is None:
            return
        is_another = now - known.success_at >= ONE_SUCCESS_EVERY_S
        self._keep(
            msgspec.structs.replace(
                known,
                proven=address if address in known.addresses else known.proven,
                success_at=now,
                try_at=now,
                failures=0,
                successes=known.successes + is_another,
            )
        )

    def failed(self, peer_id: PeerId, *, now: float) -> None:
        """This peer could not be reached; one that never can is forgotten."""
        if (known := self._known.get(peer_id)) is None:
            return
        known = msgspec.structs.replace(known, failures=known.failures + 1, try_at=now)
        is_lost = known.failures >= GIVEN_UP_AFTER and now - known.success_at > FORGOTTEN_AFTER_S
        if is_lost and not known.is_given:
            self.drop(peer_id)
            return
        self._keep(known)

    def drop(self, peer_id: PeerId) -> None:
        """Forget a peer."""
        if self._known.pop(peer_id, None) is not None:
            self._taken.subtract(self._places.pop(peer_id))
            self._taken += Counter()  # those at zero go

    def disown(self, peer_id: PeerId, *, now: float) -> None:
        """Forget a peer of another network; one that our network file names is tried again, much later."""
        known = self._known.get(peer_id)
        if known is None or not known.is_given:
            self.drop(peer_id)
            return
        self._keep(msgspec.structs.replace(known, failures=known.failures + 1, try_at=now + FOREIGN_S))

    def forgive(self) -> None:
        """Our own network changed or we slept: nobody's failures say anything now."""
        fresh = {p: msgspec.structs.replace(k, try_at=0.0, failures=0) for p, k in self._known.items()}
        self._known = fresh

    def records(self, *, now: float, alive: set[PeerId]) -> list[SignedRecord]:
        """Signed records that may be handed on: unexpired, of peers that are alive or were reached within the hour."""
        return [
            known.record
            for known in self._known.values()
            if known.record is not None
            and known.record.record.expires_at > now
            and (known.peer_id in alive or now - known.success_at <= HANDED_ON_FOR_S)
        ]

    def pinned(self, now: float) -> tuple[KnownPeer, ...]:
        """The best of those reached again and again, a few a neighbourhood: nobody pushes them out."""
        proven = (known for known in self._known.values() if known.successes >= PINNED_FROM)
        taken: dict[str, int] = {}
        pinned: list[KnownPeer] = []
        for known in sorted(proven, key=lambda k: (-worth(k, now), k.peer_id)):
            groups = groups_of(known.addresses)
            if any(taken.get(group, 0) >= PINNED_A_GROUP for group in groups):
                continue
            taken |= {group: taken.get(group, 0) + 1 for group in groups}
            pinned.append(known)
        return tuple(pinned[: self._limits.pinned])

    def _keep(self, known: KnownPeer) -> bool:
        places = _places(known)
        if (before := self._places.get(known.peer_id)) != places:
            self.drop(known.peer_id) if before is not None else None
            self._places[known.peer_id] = places
            self._taken.update(places)
        self._known[known.peer_id] = known
        return True

    def _make_room(self, newcomer: KnownPeer, now: float) -> bool:
        """Let the least worthy go of every place that is full; False when all there are worth more."""
        if newcomer.is_given:
            return True
        for place in _places(newcomer):
            if self._taken[place] >= self._most(place) and not self._evict(place, newcomer, now=now):
                return False
        return True

    def _evict(self, place: str, newcomer: KnownPeer, *, now: float) -> bool:
        pinned = {known.peer_id for known in self.pinned(now)}
        rivals = (known for peer, known in self._known.items() if place in self._places[peer] and peer not in pinned)
        least = min(rivals, key=lambda known: worth(known, now), default=None)
        if least is None or worth(least, now) >= worth(newcomer, now):
            return False
        self.drop(least.peer_id)
        return True

    def _most(self, place: str) -> int:
        limits = self._limits
        return {"ip": limits.per_ip, "group": limits.per_group, "teller": limits.per_teller, "all": limits.total}[
            place.partition(" ")[0]
        ]


def _places(known: KnownPeer) -> tuple[str, ...]:
    """The places that a peer takes up, each bounded. Whoever was reached counts for no teller any more."""
    teller = () if known.success_at or not known.teller else (f"teller {known.teller}",)
    ips = (f"ip {ip}" for ip in sorted(ips_of(known.addresses)))
    groups = (f"group {group}" for group in sorted(groups_of(known.addresses)))
    return (*ips, *groups, *teller, "all")


def worth(known: KnownPeer, now: float) -> float:
    """What a peer is worth to the book: above 2 for those reached, about 1 for strangers, falling with age and
    failures."""
    given = 10.0 if known.is_given else 0.0
    doubt = 0.2 * min(known.failures, 5)
    if known.success_at:
        age_days = max(0.0, now - known.success_at) / DAY_S
        return given + 2.0 + 1.0 / (1.0 + age_days) + 0.1 * min(known.successes, 10) - doubt
    staleness = min(1.0, max(0.0, now - known.heard_at) / DAY_S)
    return given + 1.0 + 0.1 * (len(known.sources) - 1) - 0.5 * staleness - doubt


def _merged(known: KnownPeer, heard: Heard, *, now: float) -> KnownPeer:
    """What is known with this word added. The proven address stays first, then those that the peer signed itself."""
    before, told = known.record, heard.record
    is_newer = told is not None and (before is None or told.record.sequence > before.record.sequence)
    is_hint = before is None or heard.source in (Source.NETWORK_FILE, Source.LAN)
    fresh = heard.addresses if is_newer or is_hint else ()
    old = () if is_newer and not known.is_given else known.addresses
    proven = (known.proven,) if known.proven else ()
    addresses = tuple(dict.fromkeys(filter(is_plausible, (*proven, *fresh, *old))))[:MAX_ADDRESSES]
    record = told if is_newer else before
    sources = tuple(dict.fromkeys((*known.sources, heard.source)))
    return msgspec.structs.replace(
        known, addresses=addresses or known.addresses, sources=sources, record=record, heard_at=now
    )
