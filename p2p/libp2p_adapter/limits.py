"""How much one peer or one address may take of us, and how long anything on the wire may take. Pure."""

from __future__ import annotations

import ipaddress
from collections import Counter

import msgspec

DIAL_S = 5.0
DIAL_STAGGER_S = 0.25
UPGRADE_S = 5.0
OPEN_STREAM_S = 10.0
WRITE_S = 20.0
CLOSE_S = 2.0
LEAVE_S = 0.5
ABANDON_S = 5.0
PING_EVERY_S = 15.0
PONG_S = 10.0
TCP_DEAD_S = 20.0
KEEPALIVE_IDLE_S = 10

READ_BYTES = 65_536
MAX_UNREAD_STREAM_BYTES = 8 << 20
MAX_UNREAD_CONNECTION_BYTES = 16 << 20
MAX_STREAMS_A_PEER = 32


class ConnectionLimits(msgspec.Struct, frozen=True):
    """How many connections: in all, from one IP address, and of those how many whose handshake isn't done."""

    total: int = 300
    per_ip: int = 16
    half_open_per_ip: int = 8
    loopback_factor: int = 8


class InboundCount:
    """Who holds which inbound slots now. Addresses of this very machine get loopback_factor times as many."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._open: Counter[str] = Counter()
        self._half_open: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Slots taken."""
        return self._open.total()

    def take(self, ip: str) -> bool:
        """Take a slot for a newcomer whose handshake begins; False when there is none for this address."""
        factor = self._limits.loopback_factor if _is_loopback(ip) else 1
        is_full = self.total >= self._limits.total or self._open[ip] >= factor * self._limits.per_ip
        if is_full or self._half_open[ip] >= factor * self._limits.half_open_per_ip:
            return False
        self._open[ip] += 1
        self._half_open[ip] += 1
        return True

    def established(self, ip: str) -> None:
        """The handshake of one newcomer from this address is done."""
        self._drop(self._half_open, ip)

    def release(self, ip: str) -> None:
        """A connection from this address is gone; call established first if its handshake never finished."""
        self._drop(self._open, ip)

    def _drop(self, counter: Counter[str], ip: str) -> None:
        counter[ip] -= 1
        if counter[ip] <= 0:
            del counter[ip]


def _is_loopback(ip: str) -> bool:
    try:
        return ipaddress.ip_address(ip).is_loopback
    except ValueError:
        return False
