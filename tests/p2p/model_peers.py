"""Peers that give a made-up model away, for tests: honest ones, and ones that lie or stop."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from random import Random

from core.job import PeerId
from core.model_files import joint_sha256
from core.piece_manifest import PIECE_BYTES, PieceManifest
from p2p.byte_stream import ByteStream
from p2p.model_messages import MODEL_PROTOCOL, ModelHere, OneFile
from p2p.model_source import ModelSource, SharedFile
from tests.p2p.swarms import NETWORK, Member, a_member


def some_bytes(count: int, *, seed: int = 1) -> bytes:
    return Random(seed).randbytes(count)


def manifest_of(body: bytes) -> PieceManifest:
    pieces = range(0, len(body), PIECE_BYTES)
    hashes = b"".join(hashlib.sha256(body[start : start + PIECE_BYTES]).digest() for start in pieces)
    return PieceManifest(len(body), PIECE_BYTES, hashes)


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class FakeShelf:
    """Gives away these bodies as one model; lies: what is really in the files, by the hash that they are given by."""

    def __init__(self, folder: Path, bodies: Iterable[bytes], *, lies: dict[str, bytes] | None = None) -> None:
        self._files: dict[str, SharedFile] = {}
        self._bodies: dict[str, bytes] = {}
        self.manifests: dict[str, PieceManifest] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for body in bodies:
            sha256 = sha256_of(body)
            given = (lies or {}).get(sha256, body)
            path = folder / sha256
            path.write_bytes(given)
            self._files[sha256] = SharedFile(sha256, len(given), path)
            self._bodies[sha256] = given
        files = tuple(OneFile(file.sha256, file.file_bytes) for file in self._files.values())
        self.here = ModelHere(files, "made-up", "Made up", "F16", "apache-2.0")
        self.sha256 = joint_sha256([file.sha256 for file in files])

    def model(self, sha256: str) -> ModelHere | None:
        return self.here if sha256 in (self.sha256, *self._files) and sha256 == self.sha256 else None

    def file(self, sha256: str) -> SharedFile | None:
        return self._files.get(sha256)

    def manifest(self, file: SharedFile) -> PieceManifest | None:
        return self.manifests.get(file.sha256) or manifest_of(self._bodies[file.sha256])




class StoppingStream:
    """A stream whose writes go nowhere after so many bytes."""

    def __init__(self, stream: ByteStream, stops_after: int) -> None:
        self._stream = stream
        self._left = stops_after

    async def read(self) -> bytes:
        return await self._stream.read()

    async def write(self, sent: bytes) -> None:
        taken = sent[: max(0, self._left)]
        self._left -= len(taken)
        if taken:
            await self._stream.write(taken)

    async def close(self) -> None:
        await self._stream.close()

    async def reset(self) -> None:
        await self._stream.reset()

    def blame(self) -> None:
        self._stream.blame()


def a_source(
    seed: int,
    shelf: FakeShelf,
    bootstrap: tuple[str, ...] = (),
    *,
    stops_after: int | None = None,
    limit: float = 0.0,
    network: str = NETWORK,
) -> Member:
    member = a_member(seed, bootstrap, network=network)
    source = ModelSource(shelf, upload_bytes_per_s=limit, is_open=lambda: True)

    async def serve(stream: ByteStream, peer: PeerId) -> None:
        given = stream if stops_after is None else StoppingStream(stream, stops_after)
        await source.serve(given, peer)

    member.swarm.serve(MODEL_PROTOCOL, serve)
    return member
