"""The one message that a stream of questions and answers brings each way, bounded in size and time."""

from __future__ import annotations

from typing import Any

import trio

from core.framing import FrameDecoder, FramingError
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.protocol_error import RemoteProtocolError


async def receive_message(stream: ByteStream, kind: Any, *, most: int, within_s: float) -> Any:
    """The first message of this kind (a Struct, or a union of them), in a frame of at most so many bytes. Raises
    StreamBroken when there is none in time, RemoteProtocolError when it is malformed: the peer is blamed for that."""
    decoder: FrameDecoder[Any] = FrameDecoder(kind, max_frame_bytes=most)
    with trio.move_on_after(within_s):
        while received := await stream.read():
            try:
                messages = decoder.feed(received)
            except FramingError as error:
                stream.blame()
                raise RemoteProtocolError(str(error)) from error
            if messages:
                return messages[0]
        raise StreamBroken("The peer hung up.")
    raise StreamBroken(f"The peer said nothing for {within_s:.0f} seconds.")
