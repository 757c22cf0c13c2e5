"""The giving end of model files: answers by hash, as fast as the owner allows, to few at once.

Never names a path, never reads a file on the loop, and never raises into the swarm. What is given away is the shelf's
decision, asked anew at every question.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, assert_never

import msgspec
import trio

from core.framing import FrameDecoder, FramingError, encode_frame
from core.job import PeerId
from core.piece_manifest import PIECE_BYTES, PieceManifest
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.model_messages import (
    MAX_QUESTION_BYTES,
    GetManifest,
    GetModel,
    GetPieces,
    ManifestHere,
    ModelHere,
    NotHere,
    PieceHere,
    Question,
)
from p2p.protocol_error import RemoteProtocolError
from p2p.upload_limit import UploadLimit

IDLE_S = 30.0
READ_S = 20.0
MANIFEST_S = 5.0
MOST_STREAMS, MOST_STREAMS_A_PEER = 16, 2
QUESTIONS_A_STREAM = 1 << 20
BUSY_AGAIN_S = 5.0
# A frame of Yamux that fills four Noise messages with its header, so that no piece is cut more often than it must be.
PART_BYTES = 4 * 65_519 - 12
SMALL_PART_BYTES = 16_384
PARTS_A_SECOND = 4

log = logging.getLogger(__name__)


class SharedFile(msgspec.Struct, frozen=True):
    """One file that its owner gives away. path never leaves this machine."""

    sha256: str
    file_bytes: int
    path: Path


class Shelf(Protocol):
    """What may be given away now."""

    def model(self, sha256: str) -> ModelHere | None:
        """The model with this hash, if its owner shares it. Quick."""

    def file(self, sha256: str) -> SharedFile | None:
        """One file of a shared model. Quick."""

    def manifest(self, file: SharedFile) -> PieceManifest | None:
        """Its pieces; None when the file is not what it was. Blocks, for as long as reading the file takes."""


class ModelSource:
    """One a stay in the swarm. upload_bytes_per_s 0: no limit."""

    def __init__(self, shelf: Shelf, *, upload_bytes_per_s: float, is_open: Callable[[], bool]) -> None:
        self._shelf = shelf
        self._is_open = is_open
        self._limit = UploadLimit(upload_bytes_per_s)
        slow = max(SMALL_PART_BYTES, int(upload_bytes_per_s / PARTS_A_SECOND))
        self._part_bytes = min(PART_BYTES, slow) if upload_bytes_per_s else PART_BYTES
        self._streams: Counter[PeerId] = Counter()
        self._preparing: set[str] = set()
        self.sent_bytes = 0

    async def serve(self, stream: ByteStream, peer: PeerId) -> None:
        """Answer the questions of one stream until the peer has no more."""
        if self._streams.total() >= MOST_STREAMS or self._streams[peer] >= MOST_STREAMS_A_PEER:
            await _say_busy(stream)
            return
        self._streams[peer] += 1
        try:
            with _OpenFiles() as files:
                await self._converse(stream, files)
        except (StreamBroken, OSError) as error:
            log.debug("giving a model to %s ended: %s", peer, error)
        except RemoteProtocolError as error:
            log.debug("giving a model to %s ended: %s", peer, error)
            stream.blame()
        finally:
            self._streams[peer] -= 1
            self._streams += Counter()

    async def _converse(self, stream: ByteStream, files: _OpenFiles) -> None:
        decoder: FrameDecoder[Question] = FrameDecoder(Question, max_frame_bytes=MAX_QUESTION_BYTES)
        while received := await _read(stream):
            try:
                questions = decoder.feed(received)
            except FramingError as error:
                raise RemoteProtocolError(str(error)) from error
            for question in questions:
                await self._answer(question, stream, files=files)

    async def _answer(self, question: Question, stream: ByteStream, *, files: _OpenFiles) -> None:
        if not self._is_open():
            await stream.write(encode_frame(NotHere("The owner has paused this peer.", 60.0)))
            return
        match question:
            case GetModel(sha256=sha256):
                found = self._shelf.model(sha256)
                await stream.write(encode_frame(found or NotHere("It is not given away here.")))
            case GetManifest(sha256=sha256):
                await self._tell_manifest(sha256, stream)
            case GetPieces():
                await self._send_pieces(question, stream, files=files)
            case _:
                assert_never(question)

    async def _tell_manifest(self, sha256: str, stream: ByteStream) -> None:
        file = self._shelf.file(sha256)
        if file is None:
            await stream.write(encode_frame(NotHere("It is not given away here.")))
            return
        manifest = await self._manifest(file)
        if manifest is None:
            await stream.write(encode_frame(NotHere("It is being prepared.", BUSY_AGAIN_S)))
            return
        here = ManifestHere(manifest.file_bytes, manifest.piece_bytes, len(manifest.hashes))
        await self._send(stream, encode_frame(here), raw=manifest.hashes)

    async def _manifest(self, file: SharedFile) -> PieceManifest | None:
        """The file's pieces, unless reading it takes longer than the peer waits: then they are there the next time."""
        if file.sha256 in self._preparing:
            return None
        found: list[PieceManifest | None] = []

        async def prepare() -> None:
            try:
                found.append(await trio.to_thread.run_sync(self._shelf.manifest, file))
            except Exception as error:  # noqa: BLE001  a system task that raises ends the process
                log.warning("a shared model file cannot be read: %s", type(error).__name__)
            finally:
                self._preparing.discard(file.sha256)
                done.set()

        done = trio.Event()
        self._preparing.add(file.sha256)
        trio.lowlevel.spawn_system_task(prepare)
        with trio.move_on_after(MANIFEST_S):
            await done.wait()
        return found[0] if found else None

    async def _send_pieces(self, wanted: GetPieces, stream: ByteStream, *, files: _OpenFiles) -> None:
        file = self._shelf.file(wanted.sha256)
        if file is None:
            await stream.write(encode_frame(NotHere("It is not given away any more.")))
            return
        for index in wanted.pieces:
            piece = await files.read(file, index)
            await self._send(stream, encode_frame(PieceHere(index, len(piece))), raw=piece)

    async def _send(self, stream: ByteStream, frame: bytes, *, raw: bytes) -> None:
        """A message and the bytes that follow it, in parts that the transport does not cut again."""
        whole = memoryview(raw)
        first = self._part_bytes - len(frame)
        await self._write(stream, frame + whole[:first])
        for start in range(first, len(whole), self._part_bytes):
            await self._write(stream, bytes(whole[start : start + self._part_bytes]))

    async def _write(self, stream: ByteStream, part: bytes) -> None:
        wait_s = self._limit.take(len(part), now=trio.current_time())
        if wait_s:
            await trio.sleep(wait_s)
        await stream.write(part)
        self.sent_bytes += len(part)


class _OpenFiles:
    """The one file that a stream reads now, open."""

    def __init__(self) -> None:
        self._sha256 = ""
        self._opened = -1

    def __enter__(self) -> _OpenFiles:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened >= 0:
            os.close(self._opened)

    async def read(self, file: SharedFile, index: int) -> bytes:
        """One piece. Raises RemoteProtocolError for one that the file has not, OSError when it cannot be read."""
        start = index * PIECE_BYTES
        if start >= file.file_bytes:
            raise RemoteProtocolError(f"piece {index} of a file of {file.file_bytes} bytes")
        with trio.fail_after(READ_S):
            return await trio.to_thread.run_sync(partial(self._read, file, start), abandon_on_cancel=False)

    def _read(self, file: SharedFile, start: int) -> bytes:
        if self._sha256 != file.sha256:
            self.__exit__()
            self._opened = os.open(file.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            self._sha256 = file.sha256
        os.lseek(self._opened, start, os.SEEK_SET)
        return os.read(self._opened, min(PIECE_BYTES, file.file_bytes - start))


async def _read(stream: ByteStream) -> bytes:
    with trio.move_on_after(IDLE_S):
        return await stream.read()
    raise StreamBroken(f"The peer asked nothing for {IDLE_S:.0f} seconds.")


async def _say_busy(stream: ByteStream) -> None:
    try:
        await stream.write(encode_frame(NotHere("Too many are being served.", BUSY_AGAIN_S)))
        await stream.close()
        with trio.move_on_after(1.0):
            await stream.read()
    except StreamBroken as error:
        log.debug("a busy answer was not taken: %s", error)
