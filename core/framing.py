"""The one frame format on every link of ours: an unsigned-varint length, then the JSON of a tagged msgspec Struct.

Never does I/O: bytes in, messages out. Every decoder has a size limit: one over it is refused before its body is read.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

MAX_VARINT_BYTES = 5

Message = TypeVar("Message")


class FramingError(Exception):
    """The other side sent bytes that are no frame of ours; the link must be closed."""


def encode_varint(number: int) -> bytes:
    """Unsigned LEB128, as in the multiformats unsigned-varint specification."""
    if number < 0:
        raise ValueError("a frame length cannot be negative")
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode_frame(message: Any) -> bytes:
    """One message as a frame: length, then JSON."""
    body = msgspec.json.encode(message)
    return encode_varint(len(body)) + body


class FrameDecoder(Generic[Message]):
    """Cut a byte stream into messages of one tagged union; unknown keys are ignored, unknown tags are refused."""

    def __init__(self, message_type: Any, *, max_frame_bytes: int) -> None:
        self._decoder = msgspec.json.Decoder(message_type)
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return len(self._buffer)

    def feed(self, received: bytes) -> list[Message]:
        """Every message completed by these bytes, in order. Raises FramingError at the first malformed one."""
        self._buffer += received
        messages: list[Message] = []
        while (header := self._header()) is not None:
            length, start = header
            if len(self._buffer) < start + length:
                break
            body = bytes(self._buffer[start : start + length])
            del self._buffer[: start + length]
            messages.append(self._decode(body))
        return messages

    def _header(self) -> tuple[int, int] | None:
        length = 0
        for index in range(min(len(self._buffer), MAX_VARINT_BYTES)):
            byte = self._buffer[index]
            length |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return self._checked(length), index + 1
        if len(self._buffer) >= MAX_VARINT_BYTES:
            raise FramingError("frame length is not a varint")
        return None

    def _checked(self, length: int) -> int:
        if length > self._max_frame_bytes:
            raise FramingError(f"frame of {length} bytes is over the limit of {self._max_frame_bytes}")
        return length

    def _decode(self, body: bytes) -> Message:
        try:
            message: Message = self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise FramingError(f"malformed frame: {type(error).__name__}") from error
        return message
