"""How much one peer or one address may take of us, and how long anything on the wire may take. Pure."""

from __future__ import annotations

import ipaddress
from collections import Counter

import msgspec

from core.job import PeerId
from p2p.peer_address import as_ip
from p2p.token_bucket import Rate, TokenBuckets

DIAL_S = 5.0
DIAL_STAGGER_S = 0.25
UPGRADE_S = 5.0
OPEN_STREAM_S = 10.0
WRITE_S = 20.0
CLOSE_S = 2.0
LEAVE_S = 0.5
ABANDON_S = 5.0
PING_EVERY_S = 15.0
PONG_S = 7.0
TCP_DEAD_S = 20.0
KEEPALIVE_IDLE_S = 10

READ_BYTES = 65_536
MAX_UNREAD_STREAM_BYTES = 8 << 20
MAX_UNREAD_CONNECTION_BYTES = 16 << 20
MAX_UNREAD_TOTAL_BYTES = 256 << 20
MAX_FRAME_BYTES = 1 << 20
MAX_STREAMS_A_PEER = 32

MAX_NEGOTIATION_BYTES = 1 << 10
MAX_HANDSHAKE_BYTES = 64 << 10
MAX_IDENTIFY_BYTES = 8 << 10
MAX_PEER_ADDRESSES = 16
MAX_PEER_PROTOCOLS = 128
MAX_KNOWN_PEERS = 2_000

DHT_READ_S = 5.0
DHT_ANSWER_S = 5.0
MAX_DHT_QUERY_BYTES = 8 << 10
MAX_DHT_ANSWER_BYTES = 128 << 10
MAX_DHT_KEY_BYTES = 80
MAX_DHT_QUERIES_A_SECOND = 20
PROVIDER_RECORD_S = 3_600.0
SWEEP_EVERY_S = 30.0
MAX_PROVIDER_KEYS = 4_096
MAX_KEYS_A_PROVIDER = 64
MAX_PROVIDER_ADDRESSES = 8

IPV6_HOLDER_BITS = 64


STRANGERS = Rate(per_s=2.0, burst=32.0)
ALL_STRANGERS = Rate(per_s=20.0, burst=400.0)


class ConnectionLimits(msgspec.Struct, frozen=True):
    """How many connections: inbound in all, from one IP address, of those how many whose handshake is not done yet, and
    how many more for whom we dial ourselves: strangers who take all inbound slots must not cut us off."""

    total: int = 300
    per_ip: int = 16
    half_open_per_ip: int = 8
    loopback_factor: int = 16
    kept_for_dials: int = 50


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
        factor, ip = self._limits.loopback_factor if _is_loopback(ip) else 1, holder_of(ip)
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
        ip = holder_of(ip)
        counter[ip] -= 1
        if counter[ip] <= 0:
            del counter[ip]


class NewcomerRate:
    """How often connections may begin: a handshake is work that anyone can make us do, and most of it is ours.

    A home behind one address, or a program that was restarted, connects some dozens of times at once; a flood does so
    all the time. Addresses of this very machine may do so oftener.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        own = Rate(limits.loopback_factor * STRANGERS.per_s / 4, limits.loopback_factor * STRANGERS.burst)
        self._strangers = TokenBuckets(STRANGERS, ALL_STRANGERS)
        self._own = TokenBuckets(own, own)

    def admits(self, ip: str, *, now: float) -> bool:
        """Count one more connection; False when it is one too many."""
        buckets = self._own if _is_loopback(ip) else self._strangers
        return buckets.take(PeerId(holder_of(ip)), now=now).wait_s == 0.0


class UnreadBytes:
    """How much has arrived that nobody has read: of one peer over all its streams, and of all peers."""

    def __init__(self, *, per_peer: int = MAX_UNREAD_CONNECTION_BYTES, total: int = MAX_UNREAD_TOTAL_BYTES) -> None:
        self._most = (per_peer, total)
        self._of: Counter[str] = Counter()
        self._total = 0

    @property
    def total(self) -> int:
        """Unread bytes of all peers."""
        return self._total

    def take(self, peer: str, size: int) -> bool:
        """Keep so many bytes of this peer; False when there is no room for them."""
        per_peer, total = self._most
        if self._of[peer] + size > per_peer or self._total + size > total:
            return False
        self._of[peer] += size
        self._total += size
        return True

    def release(self, peer: str, size: int) -> None:
        """So many bytes were read, or thrown away."""
        self._of[peer] -= size
        self._total -= size
        if self._of[peer] <= 0:
            del self._of[peer]


class RateLimit:
    """How many questions each peer has asked in this second. Forgets everybody with each new second."""

    def __init__(self, per_second: int) -> None:
        self._most = per_second
        self._second = 0
        self._asked: Counter[str] = Counter()

    def admits(self, peer: str, *, now: float) -> bool:
        """Count one more question; False when it is one too many."""
        if int(now) != self._second:
            self._second = int(now)
            self._asked.clear()
        self._asked[peer] += 1
        return self._asked[peer] <= self._most


def holder_of(ip: str) -> str:
    """What one holder of this address has for sure: an IPv4 address, or the /64 network of an IPv6 one (RFC 6177)."""
    address = as_ip(ip)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_HOLDER_BITS), strict=False))
    return str(address or ip)


def _is_loopback(ip: str) -> bool:
    address = as_ip(ip)
    return address is not None and address.is_loopback
