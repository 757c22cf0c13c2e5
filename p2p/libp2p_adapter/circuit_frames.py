"""Messages of circuit relay v2 and of DCUtR on a stream: an unsigned-varint length, then protobuf. Bounded in size and
time; knows nothing of what they mean."""

from __future__ import annotations

from typing import Any, TypeVar

import trio
from google.protobuf.message import DecodeError, Message

from core.framing import encode_varint
from p2p.byte_stream import ByteStream, StreamBroken

HOP = "/libp2p/circuit/relay/0.2.0/hop"
STOP = "/libp2p/circuit/relay/0.2.0/stop"
MAX_FRAME_BYTES = 4_096
MAX_LENGTH_BYTES = 2
FRAME_S = 10.0

Frame = TypeVar("Frame", bound=Message)


class CircuitFault(Exception):
    """The other end sent what is no message of the protocol."""


async def send_frame(stream: ByteStream, message: Any) -> None:
    """Raises StreamBroken."""
    body = message.SerializeToString()
    await stream.write(encode_varint(len(body)) + body)


async def receive_frame(stream: ByteStream, kind: type[Frame]) -> Frame:
    """One message; raises StreamBroken, CircuitFault. For streams on which nothing follows it unasked."""
    message, rest = await receive_frame_and_rest(stream, kind)
    if rest:
        raise CircuitFault("bytes follow that nobody asked for")
    return message


async def receive_frame_and_rest(stream: ByteStream, kind: type[Frame]) -> tuple[Frame, bytes]:
    """One message, and the bytes that came with it but belong to what follows. Raises StreamBroken, CircuitFault."""
    buffer = b""
    with trio.move_on_after(FRAME_S):
        while True:
            received = await stream.read()
            if not received:
                raise StreamBroken("The peer hung up.")
            buffer += received
            cut = _cut(buffer)
            if cut is not None:
                return _parsed(kind, cut[0]), cut[1]
    raise StreamBroken(f"The peer said nothing for {FRAME_S:.0f} seconds.")


def _cut(buffer: bytes) -> tuple[bytes, bytes] | None:
    length = 0
    for place, byte in enumerate(buffer[:MAX_LENGTH_BYTES]):
        length |= (byte & 0x7F) << (7 * place)
        if byte & 0x80:
            continue
        if length > MAX_FRAME_BYTES:
            raise CircuitFault("a message is too long")
        start = place + 1
        return (buffer[start : start + length], buffer[start + length :]) if len(buffer) >= start + length else None
    if len(buffer) >= MAX_LENGTH_BYTES:
        raise CircuitFault("a message is too long")
    return None


def _parsed(kind: type[Frame], body: bytes) -> Frame:
    message = kind()
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise CircuitFault("bytes are no protobuf message") from error
    return message
