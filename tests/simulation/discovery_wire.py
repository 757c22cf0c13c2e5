"""What the swarm's messages weigh on the wire, measured on the real encoders, for the simulation of discovery.

Kademlia is libp2p's and is not simulated: a lookup is counted as log2(peers / 20) rounds of three questions, at least
one, each answered with 20 peers (Maymounkov and Mazieres, section 2.3), and a provider record goes to 20 peers.
"""

from __future__ import annotations

from math import ceil, log2

from core.framing import encode_frame
from p2p.identity import Identity
from p2p.messages import GetOffers, Offers, SignedOffer, Tell
from p2p.peer_messages import GetPeers, Hello, Peers
from p2p.peer_record import OwnRecord, SignedRecord
from tests.p2p.fakes import an_offer

# TCP, Noise and Yamux headers of a question and its answer, and agreeing on the protocol of a new stream.
STREAM = 4 * (40 + 18 + 12) + 2 * (20 + 24 + 2 * 40)
HANDSHAKE = 2_600
PING = 2 * (40 + 18 + 12)
PING_EVERY_S = 12.0
KAD_PEERS, KAD_ASKED_AT_ONCE = 20, 3
KAD_PEER = 38 + 3 * 12 + 2
KAD_QUESTION = 40 + 34 + 180

IDENTITY = Identity(b"\x01" * 32)
ADDRESS = f"/ip4/198.51.100.100/tcp/40000/p2p/{IDENTITY.peer_id}"
RECORD = OwnRecord(IDENTITY, lambda: (ADDRESS,), swarm="a" * 32).at(1.7e9)
OFFER = SignedOffer(an_offer(IDENTITY.peer_id), IDENTITY.sign(b""), RECORD.record.addresses)


def _size(*messages: object) -> int:
    return sum(len(encode_frame(message)) for message in messages)  # type: ignore[arg-type]


HELLO = STREAM + 2 * _size(Hello("a" * 32, 1.7e9, RECORD))
TOLD = STREAM + _size(Tell((OFFER,))) + 24
ONE_OFFER = _size(Offers((OFFER,))) - _size(Offers(()))
ASKED_FOR_OFFERS = STREAM + _size(GetOffers("model"), Offers(()))
ONE_RECORD = _size(Peers((RECORD,))) - _size(Peers(()))
ASKED_FOR_PEERS = STREAM + _size(GetPeers(), Peers(()))


def record_of(peer: str, address: str, *, now: float, life_s: float) -> SignedRecord:
    """A record as the book keeps it; the simulation forges signatures, since the book does not look at them."""
    record = RECORD.record
    fields = (peer, record.swarm, (address,), now, now + life_s, int(now * 1000))
    return SignedRecord(type(record)(*fields), RECORD.signature)


def lookup_rounds(peers: int) -> int:
    """How many rounds of questions a lookup takes among so many peers."""
    return max(1, ceil(log2(max(2.0, peers / KAD_PEERS))))


def lookup_bytes(peers: int) -> int:
    """What a lookup weighs."""
    answered = min(peers, KAD_PEERS)
    return lookup_rounds(peers) * KAD_ASKED_AT_ONCE * (STREAM + KAD_QUESTION + answered * KAD_PEER)


def provide_bytes(peers: int) -> int:
    """What it weighs to publish one provider record."""
    return lookup_bytes(peers) + min(peers, KAD_PEERS) * (STREAM // 2 + KAD_QUESTION + KAD_PEER)
