"""What a relay gives to whom: reservations, circuits, and the limits of both. Pure: it counts and decides, and carries
nothing.

A reservation lets others reach its holder through us; a circuit is one connection that we carry.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum

import msgspec

from core.job import PeerId


class RelayLimits(msgspec.Struct, frozen=True):
    """How much a relay carries. The answer to a job is about a kilobyte for four tokens: circuit_bytes is some millions
    of tokens, and bytes_per_s, for one circuit, is thousands of them."""

    reservations: int = 256
    reservations_per_ip: int = 16
    circuits: int = 512
    circuits_per_peer: int = 32
    reservation_s: int = 3_600
    circuit_s: int = 86_400
    circuit_bytes: int = 1 << 30
    bytes_per_s: int = 1 << 20


class Refusal(Enum):
    """Why a circuit or a reservation is not given."""

    FULL = "the relay is full"
    NO_RESERVATION = "the peer has no reservation here"


class RelayCounts(msgspec.Struct, frozen=True):
    """What a relay holds now, and what it has done since it started."""

    reservations: int
    circuits: int
    circuits_opened: int
    refused: int
    bytes_carried: int


class RelayBook:
    """The reservations and circuits of one relay. now: seconds, of any clock that only goes forward."""

    def __init__(self, limits: RelayLimits) -> None:
        self.limits = limits
        self._expires: dict[PeerId, float] = {}
        self._ip_of: dict[PeerId, str] = {}
        self._circuits: Counter[PeerId] = Counter()
        self._now_open = 0
        self._opened = 0
        self._refused = 0
        self._bytes = 0

    def counts(self, now: float) -> RelayCounts:
        """The figures for whoever runs the relay."""
        self._expire(now)
        return RelayCounts(len(self._expires), self._now_open, self._opened, self._refused, self._bytes)

    def reserve(self, peer: PeerId, *, ip: str, now: float) -> bool:
        """Let others reach this peer through us for reservation_s more; False when there is no room for it."""
        self._expire(now)
        if peer not in self._expires and self._is_full(ip):
            self._refused += 1
            return False
        self._expires[peer] = now + self.limits.reservation_s
        self._ip_of[peer] = ip
        return True

    def open(self, source: PeerId, *, target: PeerId, now: float) -> Refusal | None:
        """Take a circuit from source to target; close it when it has ended. None: taken."""
        self._expire(now)
        refusal = None
        if target not in self._expires:
            refusal = Refusal.NO_RESERVATION
        elif self._now_open >= self.limits.circuits or self._is_busy(source) or self._is_busy(target):
            refusal = Refusal.FULL
        if refusal is not None:
            self._refused += 1
            return refusal
        self._now_open += 1
        self._opened += 1
        self._circuits.update((source, target))
        return None

    def close(self, source: PeerId, *, target: PeerId) -> None:
        """A circuit has ended."""
        self._now_open -= 1
        self._circuits.subtract((source, target))
        self._circuits = +self._circuits

    def carried(self, count: int) -> None:
        """So many bytes went through."""
        self._bytes += count

    def forget(self, connected: frozenset[PeerId]) -> None:
        """Reservations end with the connection of their holder."""
        for peer in tuple(self._expires.keys() - connected):
            self._drop(peer)

    def _is_full(self, ip: str) -> bool:
        of_this_ip = sum(other == ip for other in self._ip_of.values())
        return len(self._expires) >= self.limits.reservations or of_this_ip >= self.limits.reservations_per_ip

    def _is_busy(self, peer: PeerId) -> bool:
        return self._circuits[peer] >= self.limits.circuits_per_peer

    def _expire(self, now: float) -> None:
        for peer in [peer for peer, expires in self._expires.items() if expires <= now]:
            self._drop(peer)

    def _drop(self, peer: PeerId) -> None:
        del self._expires[peer]
        del self._ip_of[peer]
