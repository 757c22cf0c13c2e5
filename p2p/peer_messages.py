"""What peers say to each other of themselves and of other peers: the hello and peers protocols, and their limits.

Pure. A hello says which swarm its speaker belongs to (core.network: name, chain and escrow), so that networks never
mix.
"""

from __future__ import annotations

import msgspec

from p2p.peer_record import SignedRecord

HELLO_PROTOCOL = "/starling/hello/1.0.0"
PEERS_PROTOCOL = "/starling/peers/1.0.0"
VERSION = 1
MAX_HELLO_BYTES = 8 << 10
MAX_QUESTION_BYTES = 1 << 10
MAX_PEERS_BYTES = 256 << 10
MAX_RECORDS = 32


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Which swarm the speaker belongs to, its clock in seconds since the epoch, and where it may be dialled. Whoever
    dialled says it first, before anything else; it is answered by the other's."""

    swarm: str
    at: float
    record: SignedRecord | None = None
    version: int = VERSION


class GetPeers(msgspec.Struct, frozen=True, tag="get_peers"):
    """Whom do you know? Answered by at most most records, in Peers."""

    most: int = MAX_RECORDS
    version: int = VERSION


class Peers(msgspec.Struct, frozen=True, tag="peers"):
    """At most MAX_RECORDS, the answerer's own first; the asker checks every signature and expiry itself."""

    records: tuple[SignedRecord, ...]
