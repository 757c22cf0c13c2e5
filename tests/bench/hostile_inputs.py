"""Malformed inputs of every kind that reaches a peer from outside, drawn by a seed: the same seed, the same inputs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from enum import StrEnum

import msgspec
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.utils.varint import encode_uvarint

from core.framing import encode_frame, encode_varint
from core.job import JobId
from p2p.messages import JOB_PROTOCOL, QUERY_PROTOCOL, GetOffers, Ping, Propose, Resume, SignedOffer, Tell
from p2p.model_messages import MODEL_PROTOCOL
from p2p.peer_messages import HELLO_PROTOCOL, PEERS_PROTOCOL, GetPeers, Hello
from p2p.row_messages import ROWS_PROTOCOL, GetRows
from tests.p2p.fakes import PAYER, a_proof, a_request, an_offer

GREETING = b"\x13/multistream/1.0.0\n"
NOISE = b"\x07/noise\n"
NEVER_SPOKEN = (
    "/meshsub/1.1.0",
    "/floodsub/1.0.0",
    "/ipfs/id/push/1.0.0",
    "/libp2p/autonat/1.0.0",
    "/ipfs/kad/1.0.0",
    "/mplex/6.7.0",
    "/libp2p/circuit/relay/0.2.0/hop",
    "/rendezvous/1.0.0",
)
LINES = (b"\x05\xff\xfe\xfd\xfc\n", b"\x04/abc", b"\xff" * 12, b"\xff\xff\xff\xff\x0f", b"\x00", bytes(64), b"\x01\n")
MOST_JUNK = 400
DEEP = 5_000


class Way(StrEnum):
    """How an input gets in: over a socket of its own (closed after it, or left open and silent), as a stream of a
    connection, or as bytes between its streams."""

    SOCKET = "socket"
    HALF_OPEN = "half_open"
    STREAM = "stream"
    FRAME = "frame"


class Hostile(msgspec.Struct, frozen=True):
    """One input: these bytes, in this way; kind is what the report calls it."""

    way: Way
    kind: str
    sent: bytes


WEIGHTS = {
    "socket": 20,
    "half_open": 12,
    "handshake": 10,
    "line": 12,
    "unspoken": 6,
    "frame": 26,
    "dht": 12,
    "muxer": 2,
}


def hostile_inputs(seed: int, count: int, *, network: str, peer_id: str) -> Iterator[Hostile]:
    """So many inputs for this peer."""
    chance = random.Random(seed)
    frames = _frames(network, peer_id)
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    for kind in chance.choices(kinds, weights, k=count):
        yield _drawn(kind, chance, frames=frames, network=network)


def _drawn(kind: str, chance: random.Random, *, frames: list[tuple[str, bytes]], network: str) -> Hostile:
    match kind:
        case "socket":
            return Hostile(Way.SOCKET, kind, _junk(chance))
        case "half_open":
            return Hostile(Way.HALF_OPEN, kind, chance.choice((b"", GREETING, GREETING + NOISE, b"\x13")))
        case "handshake":
            size = chance.randrange(200)
            return Hostile(Way.SOCKET, kind, GREETING + NOISE + size.to_bytes(2) + chance.randbytes(size))
        case "line":
            return Hostile(Way.STREAM, kind, GREETING + chance.choice((*LINES, _junk(chance))))
        case "unspoken":
            return Hostile(Way.STREAM, kind, _call(chance.choice(NEVER_SPOKEN)) + _junk(chance))
        case "frame":
            protocol, valid = chance.choice(frames)
            return Hostile(Way.STREAM, kind, _call(protocol) + _spoilt(valid, chance))
        case "dht":
            return Hostile(Way.STREAM, kind, _call(f"/starling/{network}/kad/1.0.0") + _dht(chance))
    return Hostile(Way.FRAME, kind, _muxer_frame(chance))


def _call(protocol: str) -> bytes:
    line = protocol.encode() + b"\n"
    return GREETING + encode_uvarint(len(line)) + line


def _junk(chance: random.Random) -> bytes:
    web = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    return chance.choice((web, b"\x16\x03\x01" + chance.randbytes(80), chance.randbytes(chance.randrange(MOST_JUNK))))


def _frames(network: str, peer_id: str) -> list[tuple[str, bytes]]:
    """One valid first message of each kind that a peer may be sent, and some that come at the wrong moment."""
    request = a_request("hostile")
    signed = SignedOffer(an_offer(peer_id), "00" * 64)
    return [
        (JOB_PROTOCOL, encode_frame(Propose(request, PAYER, a_proof("hostile", peer_id)))),
        (JOB_PROTOCOL, encode_frame(Resume(JobId("hostile"), 3))),
        (QUERY_PROTOCOL, encode_frame(Tell((signed,) * 3))),
        (QUERY_PROTOCOL, encode_frame(GetOffers("tiny"))),
        (QUERY_PROTOCOL, encode_frame(Ping(1))),
        (HELLO_PROTOCOL, encode_frame(Hello(network, 1e9))),
        (PEERS_PROTOCOL, encode_frame(GetPeers())),
        (ROWS_PROTOCOL, encode_frame(GetRows())),
        (MODEL_PROTOCOL, encode_frame(Ping(1))),
    ]


def _spoilt(valid: bytes, chance: random.Random) -> bytes:
    body = valid[2:] if valid[0] & 0x80 else valid[1:]
    match chance.randrange(9):
        case 0:
            return valid[: chance.randrange(len(valid))]
        case 1:
            return _flipped(valid, chance)
        case 2:
            return encode_varint(1 << chance.randrange(20, 31)) + body
        case 3:
            return _framed(b"[" * DEEP)
        case 4:
            return _framed(body.replace(b'"type":"', b'"type":"x'))
        case 5:
            return _framed(body.replace(b":", b":-1e308,", 1))
        case 6:
            return _framed(b"\xff\xfe" + body)
        case 7:
            return b"\xff" * 9
    return _framed(b"{}") * 200


def _framed(body: bytes) -> bytes:
    return encode_varint(len(body)) + body


def _flipped(valid: bytes, chance: random.Random) -> bytes:
    spoilt = bytearray(valid)
    for _ in range(1 + chance.randrange(8)):
        spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
    return bytes(spoilt)


def _dht(chance: random.Random) -> bytes:
    message = Message(type=chance.randrange(6), key=chance.randbytes(chance.randrange(100)))
    if message.type == Message.MessageType.PUT_VALUE:
        message.record.key, message.record.value = message.key, chance.randbytes(2_000)
    provider = message.providerPeers.add()
    provider.id, provider.signedRecord = chance.randbytes(36), chance.randbytes(chance.randrange(200))
    provider.addrs.extend(chance.randbytes(8) for _ in range(chance.randrange(20)))
    message.senderRecord = chance.randbytes(chance.randrange(200))
    valid = message.SerializeToString()
    sent = chance.choice((valid, _flipped(valid, chance), valid[: len(valid) // 2]))
    length = chance.choice((len(sent), len(sent), 1 << 30, len(sent) + 10))
    return encode_uvarint(length) + sent


def _muxer_frame(chance: random.Random) -> bytes:
    """A Yamux header with nonsense in it; a body now and then."""
    kind, flags = chance.choice((0, 1, 2, 3, 9)), chance.randrange(1 << 16)
    stream, length = chance.randrange(1 << 32), chance.choice((0, 10, 60_000, 1 << 31))
    header = bytes([chance.choice((0, 0, 0, 7)), kind]) + flags.to_bytes(2) + stream.to_bytes(4) + length.to_bytes(4)
    return header + chance.randbytes(min(length, 60_000) if kind == 0 else 0)
