"""Cut what a source sends into answers and the raw bytes that follow them. Pure: bytes in, answers and parts out.

Raw bytes are never copied or searched: they are handed on as they came.
"""

from __future__ import annotations

import msgspec

from core.framing import MAX_VARINT_BYTES
from p2p.model_messages import MAX_ANSWER_BYTES, Answer, raw_length
from p2p.protocol_error import RemoteProtocolError


class AnswerDecoder:
    """The asking end's reader. Raises RemoteProtocolError at the first malformed frame."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(Answer)
        self._start = bytearray()
        self._raw_left = 0

    def feed(self, received: bytes) -> list[Answer | memoryview]:
        """Every answer completed by these bytes and every part of raw bytes in them, in order."""
        found: list[Answer | memoryview] = []
        rest = memoryview(received)
        while len(rest):
            if self._raw_left:
                part = rest[: self._raw_left]
                self._raw_left -= len(part)
                rest = rest[len(part) :]
                found.append(part)
                continue
            rest, answer = self._take_frame(rest)
            if answer is not None:
                self._raw_left = raw_length(answer)
                found.append(answer)
        return found

    def _take_frame(self, rest: memoryview) -> tuple[memoryview, Answer | None]:
        """As much of rest as the frame needs is taken; the answer once the frame is whole."""
        length, header = _header(self._start)
        while not header and len(rest):
            self._start += rest[:1]
            rest = rest[1:]
            length, header = _header(self._start)
        wanted = header + length - len(self._start) if header else 0
        self._start += rest[:wanted]
        rest = rest[wanted:]
        if not header or len(self._start) < header + length:
            return rest, None
        body = bytes(self._start[header:])
        self._start.clear()
        return rest, self._decoded(body)

    def _decoded(self, body: bytes) -> Answer:
        try:
            answer: Answer = self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteProtocolError(f"malformed frame: {type(error).__name__}") from error
        return answer


def _header(start: bytearray) -> tuple[int, int]:
    """The frame's length and how many bytes say so; (0, 0) while they are not all there."""
    length = 0
    for index, byte in enumerate(start[:MAX_VARINT_BYTES]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if length > MAX_ANSWER_BYTES:
                raise RemoteProtocolError(f"frame of {length} bytes is over the limit of {MAX_ANSWER_BYTES}")
            return length, index + 1
    if len(start) >= MAX_VARINT_BYTES:
        raise RemoteProtocolError("frame length is not a varint")
    return 0, 0
