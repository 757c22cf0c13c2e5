"""A source of the exchange benchmark, in a process of its own: `python -m tests.bench.exchange_peers KIND FILE HASH`.

honest gives the file away; garbage gives other bytes with the honest manifest; stops falls silent after a sixth; raw
sends its third of the file over a plain TCP socket to the port that it is told on stdin.
"""

from __future__ import annotations

import secrets
import socket
import sys
from functools import partial
from pathlib import Path

import msgspec
import trio

from core.job import PeerId
from core.piece_manifest import PIECE_BYTES, PieceManifest
from p2p.byte_stream import ByteStream
from p2p.identity import Identity
from p2p.model_messages import MODEL_PROTOCOL, ModelHere, OneFile
from p2p.model_source import ModelSource, SharedFile
from p2p.swarm import Swarm

NETWORK = "bench"
SOURCES = 3
STOPS_AFTER = 1 / 6


class OneShelf:
    """One file to give away; is_garbage: what is sent in its place has the right length and no more."""

    def __init__(self, path: Path, sha256: str, *, manifest: Path, is_garbage: bool) -> None:
        size = path.stat().st_size
        self.here = ModelHere((OneFile(sha256, size),), "made-up", "Made up", "F16", "apache-2.0")
        self._manifest = PieceManifest(size, PIECE_BYTES, manifest.read_bytes())
        self._file = SharedFile(sha256, size, Path("/dev/urandom") if is_garbage else path)

    def model(self, sha256: str) -> ModelHere | None:
        return self.here

    def file(self, sha256: str) -> SharedFile | None:
        return self._file

    def manifest(self, file: SharedFile) -> PieceManifest | None:
        return self._manifest


class StoppingStream:
    """A stream that takes so many bytes and then no more, without a word."""

    def __init__(self, stream: ByteStream, left: int) -> None:
        self._stream = stream
        self._left = left
        self.read, self.close, self.reset, self.blame = stream.read, stream.close, stream.reset, stream.blame

    async def write(self, sent: bytes) -> None:
        if self._left > 0:
            await self._stream.write(sent)
        self._left -= len(sent)


async def give(kind: str, shelf: OneShelf) -> None:
    swarm = Swarm(Identity(secrets.token_bytes(32)), port=0, bootstrap=(), network=NETWORK)
    source = ModelSource(shelf, upload_bytes_per_s=0.0, is_open=lambda: True)
    left = int(STOPS_AFTER * shelf.here.files[0].file_bytes)

    async def serve(stream: ByteStream, peer: PeerId) -> None:
        await source.serve(StoppingStream(stream, left) if kind == "stops" else stream, peer)

    swarm.serve(MODEL_PROTOCOL, serve)
    async with trio.open_nursery() as nursery:
        await nursery.start(swarm.run)
        print(msgspec.json.encode([swarm.peer_id, *swarm.addresses()]).decode(), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


def send_raw(path: Path) -> None:
    """Wait for `PORT PLACE`, then send this third of the file."""
    print("ready", flush=True)
    port, place = map(int, sys.stdin.readline().split())
    size = path.stat().st_size
    start, end = size * place // SOURCES, size * (place + 1) // SOURCES
    with socket.create_connection(("127.0.0.1", port)) as connection, path.open("rb") as file:
        connection.sendall(place.to_bytes(1, "big"))
        file.seek(start)
        for piece in iter(partial(file.read, PIECE_BYTES), b""):
            connection.sendall(piece[: max(0, end - start)])
            start += len(piece)
            if start >= end:
                break
    sys.stdin.read()


def main() -> None:
    kind, path, sha256, manifest = sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    if kind == "raw":
        send_raw(path)
    else:
        trio.run(give, kind, OneShelf(path, sha256, manifest=manifest, is_garbage=kind == "garbage"))


if __name__ == "__main__":
    main()
