"""Whom to dial next: enough good peers, of more than one neighbourhood and told of by more than one source.

Pure. Chance comes from whoever asks, as the order of equals does from the peers' ids.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Iterable
from functools import lru_cache

import msgspec

from core.job import PeerId
from p2p.address_book import AddressBook, KnownPeer, worth
from p2p.peer_address import REMEMBERED, group_of, groups_of, ip_of

TARGET_OUTBOUND = 8
OUTBOUND_A_GROUP = 3
PRIVATE_A_GROUP = 6
FIRST_BACKOFF_S = 0.25
LONGEST_BACKOFF_S = 600.0
LONGEST_FOR_GOOD_S = 30.0
GOOD_FOR_S = 86_400.0
STAY_AT_GIVEN_S = 60.0
STAY_AWAY_S = 300.0
GIVEN_AT_ONCE = 2
ENOUGH_OTHERS = 2
CROWDED = 0.8
DISJOINT_SOURCES = 2
MOST_ASKED = 16
ASKED_AT_ONCE = 4


class Link(msgspec.Struct, frozen=True):
    """One connection: to whom, at which remote address (a multiaddr), who dialled, and since when (seconds since the
    epoch). is_relayed: through another peer."""

    peer_id: PeerId
    address: str
    is_outbound: bool
    since: float = 0.0
    is_relayed: bool = False


def worth_dialling(
    book: AddressBook, links: Iterable[Link], *, now: float, target: int = TARGET_OUTBOUND
) -> list[KnownPeer]:
    """Those to dial now, the best first, so many that target outbound connections would stand. New sources come before
    known ones, no neighbourhood gets more than a few, and of those that the network file names two are enough."""
    links = tuple(links)
    outbound = [link for link in links if link.is_outbound]
    if len(outbound) >= target:
        return []
    places = _Places(book, links)
    ready = [peer for peer in book.peers() if not places.is_taken(peer, now) and next_try(peer, now) <= now]
    chosen: list[KnownPeer] = []
    while ready and len(outbound) + len(chosen) < target:
        best = max(ready, key=lambda peer: (source_of(peer) not in places.sources, worth(peer, now), book.lot(peer)))
        ready.remove(best)
        if places.has_room(best):
            places.take(best)
            chosen.append(best)
    return chosen


class _Places:
    """What connections take up: neighbourhoods, sources, and how many of those that the network file names."""

    def __init__(self, book: AddressBook, links: tuple[Link, ...]) -> None:
        outbound = [link for link in links if link.is_outbound]
        known = [peer for link in outbound if (peer := book.get(link.peer_id)) is not None]
        self.sources = {source_of(peer) for peer in known}
        self._connected = {link.peer_id for link in links}
        self._groups = Counter(group for link in outbound if (group := group_of(ip_of(link.address))))
        self._given = sum(peer.is_given for peer in known)
        self._others = sum(not peer.is_given for link in links if (peer := book.get(link.peer_id)) is not None)

    def is_taken(self, peer: KnownPeer, now: float) -> bool:
        """Whether it is connected, or was not long ago, named by the network file, while others are: it is for those
        who know nobody."""
        is_spare = self._others >= ENOUGH_OTHERS and now - peer.success_at < STAY_AWAY_S
        return peer.peer_id in self._connected or (peer.is_given and is_spare)

    def has_room(self, peer: KnownPeer) -> bool:
        if peer.is_given and self._given >= GIVEN_AT_ONCE:
            return False
        return all(self._groups[group] < _most(group) for group in groups_of(peer.addresses))

    def take(self, peer: KnownPeer) -> None:
        self._groups.update(groups_of(peer.addresses))
        self.sources.add(source_of(peer))
        self._given += peer.is_given


def spared(book: AddressBook, links: Iterable[Link], *, now: float, target: int = TARGET_OUTBOUND) -> list[PeerId]:
    """Connections to let go: those to peers that the network file names, once target others stand and newcomers may
    need their places more."""
    outbound = [(link, book.get(link.peer_id)) for link in links if link.is_outbound]
    given = [link for link, known in outbound if known is not None and known.is_given]
    if len(outbound) - len(given) < target:
        return []
    return [link.peer_id for link in given if now - link.since > STAY_AT_GIVEN_S]


def overstayed(links: Iterable[Link], *, most: int, now: float) -> list[PeerId]:
    """Whom a meeting point lets go so that newcomers get in: once it is nearly full of most, those who dialled it
    first and had time to hear of others."""
    inbound = sorted((link for link in links if not link.is_outbound), key=lambda link: link.since)
    excess = len(inbound) - int(CROWDED * most)
    return [link.peer_id for link in inbound[: max(0, excess)] if now - link.since > STAY_AT_GIVEN_S / 2]


def next_try(known: KnownPeer, now: float) -> float:
    """When to dial this peer again: doubling, a quarter more or less by chance of its id, sooner for good ones."""
    if not known.failures:
        return known.try_at + FIRST_BACKOFF_S if known.try_at else 0.0
    is_good = known.is_given or now - known.success_at < GOOD_FOR_S
    longest_s = LONGEST_FOR_GOOD_S if is_good else LONGEST_BACKOFF_S
    delay_s = min(longest_s, FIRST_BACKOFF_S * 2.0 ** min(known.failures, 16))
    chance = zlib.crc32(f"{known.peer_id}{known.failures}".encode()) / 2**32
    return known.try_at + delay_s * (0.75 + 0.5 * chance)


def next_due(book: AddressBook, links: Iterable[Link], *, now: float) -> float | None:
    """When somebody may be dialled next; None while nobody is missing whom there is room for."""
    places = _Places(book, tuple(links))
    missing = (peer for peer in book.peers() if not places.is_taken(peer, now) and places.has_room(peer))
    return min((next_try(peer, now) for peer in missing), default=None)


def unasked_sources(book: AddressBook, asked: Collection[PeerId], *, heard: Collection[str]) -> list[KnownPeer]:
    """Whom to ask before "nobody has it" is believed: one of each source that was not heard, until two were; none when
    two were heard, or nobody is left."""
    if len(heard) >= DISJOINT_SOURCES or len(asked) >= MOST_ASKED:
        return []
    found: dict[str, KnownPeer] = {}
    for known in book.peers():
        if known.peer_id not in asked and source_of(known) not in heard:
            best = found.setdefault(source_of(known), known)
            found[source_of(known)] = max(best, known, key=lambda peer: (peer.success_at, -peer.failures))
    return list(found.values())[:ASKED_AT_ONCE]


def source_of(known: KnownPeer) -> str:
    """What tells sources apart: how a peer was first learned, and from whom."""
    return f"{known.sources[0]} {known.teller}" if known.sources else known.teller


@lru_cache(maxsize=REMEMBERED)
def _most(group: str) -> int:
    ip = ip_of(f"/ip{6 if ':' in group else 4}/{group.partition('/')[0]}")
    return PRIVATE_A_GROUP if ip is not None and ip.is_private else OUTBOUND_A_GROUP
