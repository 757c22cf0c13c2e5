"""The asking end of one stream to one source: questions out, answers and whole pieces in.

Never checks a piece: that takes a thread, and is for whoever writes it. One task reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec
import trio

from core.framing import encode_frame
from core.model_files import joint_sha256
from core.piece_manifest import PieceManifest, manifest_fault
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.model_messages import (
    Answer,
    GetManifest,
    GetModel,
    GetPieces,
    ManifestHere,
    ModelHere,
    NotHere,
    OneFile,
    PieceHere,
)
from p2p.model_wire import AnswerDecoder
from p2p.protocol_error import RemoteProtocolError

ANSWER_S = 15.0
MANIFEST_S = 60.0


class Piece(msgspec.Struct, frozen=True):
    """One piece as it came, unchecked."""

    index: int
    parts: list[memoryview]
    length: int


class ModelLink:
    """Open it on a fresh stream; whoever opened the stream resets it."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._decoder = AnswerDecoder()
        self._found: deque[Answer | memoryview] = deque()

    async def model(self, sha256: str) -> ModelHere | NotHere:
        """What the source has by this hash. Raises StreamBroken, RemoteProtocolError."""
        with trio.move_on_after(ANSWER_S):
            await self._stream.write(encode_frame(GetModel(sha256)))
            answer = await self._answer()
            if isinstance(answer, ModelHere):
                if joint_sha256([file.sha256 for file in answer.files]) != sha256:
                    raise RemoteProtocolError("a model with another hash than the one asked for")
                return answer
            return _refusal(answer)
        raise StreamBroken(f"The source said nothing for {ANSWER_S:.0f} seconds.")

    async def manifest(self, file: OneFile) -> PieceManifest | NotHere:
        """The pieces of this file. Raises StreamBroken, RemoteProtocolError."""
        with trio.move_on_after(MANIFEST_S):
            await self._stream.write(encode_frame(GetManifest(file.sha256)))
            answer = await self._answer()
            if not isinstance(answer, ManifestHere):
                return _refusal(answer)
            hashes = b"".join(await self._raw(answer.hash_bytes, _ignore))
            manifest = PieceManifest(answer.file_bytes, answer.piece_bytes, hashes)
            if fault := manifest_fault(manifest):
                raise RemoteProtocolError(fault)
            if manifest.file_bytes != file.file_bytes:
                raise RemoteProtocolError("a manifest of another length than the file's")
            return manifest
        raise StreamBroken(f"The source said nothing for {MANIFEST_S:.0f} seconds.")

    async def ask(self, sha256: str, pieces: tuple[int, ...]) -> None:
        """Ask for pieces; they come by next_piece. Raises StreamBroken."""
        await self._stream.write(encode_frame(GetPieces(sha256, pieces)))

    async def next_piece(self, on_bytes: Callable[[], None]) -> Piece | NotHere:
        """The next piece, however long it takes: whoever waits knows how long is too long, and calls on_bytes meanwhile
        tells that some came. Raises StreamBroken, RemoteProtocolError."""
        answer = await self._answer()
        if not isinstance(answer, PieceHere):
            return _refusal(answer)
        return Piece(answer.index, await self._raw(answer.length, on_bytes), answer.length)

    async def _answer(self) -> Answer:
        while not self._found:
            await self._more()
        answer = self._found.popleft()
        if isinstance(answer, memoryview):
            raise RemoteProtocolError("raw bytes that nobody asked for")
        return answer

    async def _raw(self, length: int, on_bytes: Callable[[], None]) -> list[memoryview]:
        parts: list[memoryview] = []
        while length:
            while not self._found:
                await self._more()
                on_bytes()
            part = self._found.popleft()
            if not isinstance(part, memoryview):
                raise RemoteProtocolError("an answer among raw bytes")
            parts.append(part)
            length -= len(part)
        return parts

    async def _more(self) -> None:
        received = await self._stream.read()
        if not received:
            raise StreamBroken("The source hung up.")
        self._found.extend(self._decoder.feed(received))


def _refusal(answer: Answer) -> NotHere:
    if isinstance(answer, NotHere):
        return answer
    raise RemoteProtocolError(f"{type(answer).__name__} is no answer to what was asked")




def _ignore() -> None:
    return
