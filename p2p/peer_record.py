"""Where a peer may be dialled, in its own signed words that expire: what peers hand on about each other.

Pure: `now` is an argument. Never believes an address because of a signature: a dial proves the peer id.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from core.job import PeerId
from p2p.identity import Identity, is_signed_by
from p2p.peer_address import MAX_ADDRESSES, is_plausible

LIFE_S = 7_200.0
RENEW_S = 1_800.0
MAX_SKEW_S = 900.0
MAX_SWARM_CHARS = 64


class PeerRecord(msgspec.Struct, frozen=True):
    """One peer of one swarm, and where it listens. A higher sequence replaces a lower one."""

    peer_id: str
    swarm: str
    addresses: tuple[str, ...]
    issued_at: float
    expires_at: float
    sequence: int


class SignedRecord(msgspec.Struct, frozen=True):
    """A record and its peer's signature over record_bytes, in hex."""

    record: PeerRecord
    signature: str


def record_bytes(record: PeerRecord) -> bytes:
    """What a peer signs of its record."""
    return b"starling-peer-1:" + msgspec.json.encode(record)


def record_fault(signed: SignedRecord, *, swarm: str, now: float) -> str | None:
    """Why this record is not to be believed, or None."""
    record = signed.record
    if record.swarm != swarm:
        return "The record is of another network."
    if not now < record.expires_at <= now + LIFE_S + MAX_SKEW_S or record.issued_at > now + MAX_SKEW_S:
        return "The record is expired, lives too long, or is from the future."
    if len(record.addresses) > MAX_ADDRESSES or not all(map(is_plausible, record.addresses)):
        return "The record has too many addresses, or one that nobody could dial."
    if not is_signed_by(PeerId(record.peer_id), record_bytes(record), signature=signed.signature):
        return "The record is not signed by its peer."
    return None


class OwnRecord:
    """This peer's record, signed anew when its addresses change or its life is running out."""

    def __init__(self, identity: Identity, addresses: Callable[[], tuple[str, ...]], *, swarm: str) -> None:
        self._identity = identity
        self._addresses = addresses
        self._swarm = swarm
        self._signed: SignedRecord | None = None

    def at(self, now: float) -> SignedRecord:
        """The record as of now."""
        addresses = tuple(filter(is_plausible, self._addresses()))[:MAX_ADDRESSES]
        known = self._signed.record if self._signed is not None else None
        if self._signed is not None and known is not None and known.addresses == addresses:
            age_s = now - known.issued_at
            if 0 <= age_s < RENEW_S:
                return self._signed
        sequence = max(int(now * 1000), known.sequence + 1 if known is not None else 0)
        record = PeerRecord(self._identity.peer_id, self._swarm, addresses, now, now + LIFE_S, sequence)
        self._signed = SignedRecord(record, self._identity.sign(record_bytes(record)))
        return self._signed
