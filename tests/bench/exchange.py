"""The exchange of model files against a plain TCP copy: one file from three sources on loopback, each in a process of
its own, one of which sends garbage and one of which stops.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
import timeit
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import psutil
import trio
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from core.job import PeerId
from core.piece_file import PieceFile
from core.piece_manifest import PIECE_BYTES
from p2p.identity import Identity
from p2p.model_fetch import Fetched, FileFetch
from p2p.model_messages import ModelHere, OneFile
from p2p.model_search import FoundSource
from p2p.swarm import Swarm
from tests.bench.exchange_peers import NETWORK, SOURCES
from tests.bench.report import Report

ROOT = Path(__file__).resolve().parents[2]
FILE_BYTES, QUICK_BYTES = 1_000_000_000, 100_000_000
LEAST_SHARE = 0.6
LONGEST_S = 300.0
# The longest message of Noise, less its tag.
NOISE_MESSAGE_BYTES = 65_519

Source = tuple[subprocess.Popen[str], str]


class Made(msgspec.Struct, frozen=True):
    """The file that goes round, and the hashes of its pieces in a file beside it."""

    path: Path
    manifest: Path
    sha256: str
    file_bytes: int


class Measured(msgspec.Struct, frozen=True):
    """One way of copying. cpu_s: what all processes took together."""

    seconds: float
    cpu_s: float
    is_right: bool
    fetched: Fetched | None = None


def run(*, is_quick: bool) -> Report:
    with tempfile.TemporaryDirectory() as name:
        made = _make(Path(name), QUICK_BYTES if is_quick else FILE_BYTES)
        raw = _measure_raw(made)
        hashed = _measure_raw(made, is_hashed=True)
        hostile = _measure_ours(made, ("honest", "garbage", "stops"))
        honest = _measure_ours(made, ("honest", "honest", "honest"))
    megabytes, cores, crypto_ms = made.file_bytes / 1e6, float(os.cpu_count() or 1), _crypto_ms_per_mb()
    rate, raw_rate = megabytes / hostile.seconds, megabytes / raw.seconds
    figures = {
        "mb_per_s": rate,
        "raw_tcp_mb_per_s": raw_rate,
        "share_of_raw_tcp": rate / raw_rate,
        "verified": float(hostile.is_right and honest.is_right),
        "honest_sources_mb_per_s": megabytes / honest.seconds,
        "raw_tcp_hashed_mb_per_s": megabytes / hashed.seconds,
        "cpu_ms_per_mb": 1000 * hostile.cpu_s / megabytes,
        "raw_tcp_cpu_ms_per_mb": 1000 * raw.cpu_s / megabytes,
        "crypto_cpu_ms_per_mb": crypto_ms,
        "most_share_of_raw_tcp": raw.seconds / max(raw.seconds, (raw.cpu_s + crypto_ms * megabytes / 1000) / cores),
        "garbage_found": float(hostile.fetched is not None and len(hostile.fetched.wrong)),
        "cores": cores,
    }
    failure = "" if figures["verified"] else "The file that came is not the file that was sent."
    if not failure and figures["share_of_raw_tcp"] < LEAST_SHARE:
        failure = f"{figures['share_of_raw_tcp']:.2f} of a raw TCP copy; {LEAST_SHARE} is promised."
    return Report(figures, failure=failure)


def _make(folder: Path, file_bytes: int) -> Made:
    path, manifest = folder / "sent", folder / "manifest"
    whole = hashlib.sha256()
    with path.open("wb") as file, manifest.open("wb") as hashes:
        for start in range(0, file_bytes, PIECE_BYTES):
            piece = secrets.token_bytes(min(PIECE_BYTES, file_bytes - start))
            file.write(piece)
            hashes.write(hashlib.sha256(piece).digest())
            whole.update(piece)
        os.fsync(file.fileno())
    return Made(path, manifest, whole.hexdigest(), file_bytes)


@contextmanager
def _sources(made: Made, kinds: tuple[str, ...]) -> Iterator[list[Source]]:
    """The processes and the first line that each said; they end with the block."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.bench.exchange_peers", kind, made.path, made.sha256, made.manifest],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for kind in kinds
    ]  # fmt: skip
    try:
        yield [(process, process.stdout.readline()) for process in started if process.stdout is not None]
    finally:
        for process in started:
            process.communicate(timeout=30)


def _measure_raw(made: Made, *, is_hashed: bool = False) -> Measured:
    target = made.path.with_name("copied")
    opened = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    with _sources(made, ("raw",) * SOURCES) as sources, socket.create_server(("127.0.0.1", 0)) as server:
        cpu, began = _cpu_s(sources), time.perf_counter()
        for place, (process, _) in enumerate(sources):
            _say(process, f"{server.getsockname()[1]} {place}\n")
        threads = []
        for _ in sources:
            connection, _ = server.accept()
            threads.append(threading.Thread(target=_receive_raw, args=(connection, opened, made, is_hashed)))
            threads[-1].start()
        for thread in threads:
            thread.join(LONGEST_S)
        seconds, cpu = time.perf_counter() - began, _cpu_s(sources) - cpu
    os.close(opened)
    is_right = target.stat().st_size == made.file_bytes
    target.unlink()
    return Measured(seconds, cpu, is_right)


def _receive_raw(connection: socket.socket, opened: int, made: Made, is_hashed: bool) -> None:
    place = connection.recv(1)[0]
    offset = made.file_bytes * place // SOURCES
    buffer, digest = bytearray(PIECE_BYTES), hashlib.sha256()
    with connection:
        while count := connection.recv_into(buffer):
            part = memoryview(buffer)[:count]
            os.pwrite(opened, part, offset)
            offset += count
            if is_hashed:
                digest.update(part)


def _measure_ours(made: Made, kinds: tuple[str, ...]) -> Measured:
    with _sources(made, kinds) as sources:
        here = ModelHere((OneFile(made.sha256, made.file_bytes),))
        found = []
        for _, line in sources:
            peer, *addresses = msgspec.json.decode(line, type=list[str])
            found.append(FoundSource(PeerId(peer), tuple(addresses), here))
        cpu = _cpu_s(sources)
        seconds, fetched = trio.run(_fetch, made, found)
        cpu = _cpu_s(sources) - cpu
    target = made.path.with_name("fetched")
    is_right = _sha256(target) == made.sha256
    target.unlink()
    return Measured(seconds, cpu, is_right, fetched)


async def _fetch(made: Made, found: list[FoundSource]) -> tuple[float, Fetched]:
    swarm = Swarm(Identity(secrets.token_bytes(32)), port=0, bootstrap=(), network=NETWORK)
    sink = PieceFile(made.path.with_name("fetched"), made.sha256)

    async def find() -> list[FoundSource]:
        return found

    with trio.fail_after(LONGEST_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(swarm.run)
            began = time.perf_counter()
            file = OneFile(made.sha256, made.file_bytes)
            fetched = await FileFetch(swarm, file, sink=sink, on_progress=lambda _: None).run(find)
            seconds = time.perf_counter() - began
            nursery.cancel_scope.cancel()
    sink.close()
    return seconds, fetched


def _crypto_ms_per_mb() -> float:
    """What no exchange of ours can do without: Noise seals and opens each byte, and its piece and the file are hashed.
    The least of several rounds, one core, nothing else."""
    cipher, nonce, plain = ChaCha20Poly1305(bytes(32)), bytes(12), secrets.token_bytes(NOISE_MESSAGE_BYTES)
    sealed = cipher.encrypt(nonce, plain, None)
    seal = partial(cipher.encrypt, nonce, plain, None)
    opened = partial(cipher.decrypt, nonce, sealed, None)
    digest = partial(hashlib.sha256, plain)
    seconds = sum(min(timeit.repeat(work, number=50, repeat=7)) for work in (seal, opened, digest, digest)) / 50
    return 1e9 * seconds / NOISE_MESSAGE_BYTES


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cpu_s(sources: list[Source]) -> float:
    """What this process and its sources have used; of one that has ended, nothing more is known."""
    used = sum(os.times()[:2])
    for process, _ in sources:
        try:
            times = psutil.Process(process.pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        used += times.user + times.system
    return used
