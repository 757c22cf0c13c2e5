"""The peer of tests.bench.swarm_peer seen from outside: started, asked for its figures, and ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class PeerProcess:
    """One running peer."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        said = self._line()
        self.addresses: tuple[str, ...] = tuple(said["addresses"])
        self.raw_port: int = said["raw_port"]

    def figures(self) -> dict[str, Any]:
        """What the peer says of itself now; {} when it has crashed."""
        if self._process.poll() is not None or self._process.stdin is None:
            return {}
        self._process.stdin.write("figures\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        said: dict[str, Any] = json.loads(line) if line else {}
        return said


@contextmanager
def a_peer_process() -> Iterator[PeerProcess]:
    """A peer that ends with the block."""
    process = spawned("tests.bench.swarm_peer")
    try:
        yield PeerProcess(process)
    finally:
        end(process)


def spawned(module: str, *arguments: str, niceness: int = 0) -> subprocess.Popen[str]:
    """A process of ours with a pipe on each side."""
    command = [sys.executable, "-m", module, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    if niceness:
        command = ["nice", "-n", str(niceness), *command]
    return subprocess.Popen(  # noqa: S603
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def end(process: subprocess.Popen[str]) -> None:
    """End a process by the end of its input, or by force."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
