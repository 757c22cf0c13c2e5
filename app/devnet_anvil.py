"""Foundry's anvil as the development chain, where it is installed: faster than py-evm, same JSON-RPC.

Starts it, waits until it answers, and ends it. A kill of anvil itself loses at most the last second of blocks.
"""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

from app.devnet_rpc import LOOPBACK, free_port

START_S = 10.0
STOP_S = 5.0
_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1


class AnvilFailed(Exception):
    """anvil ended, or never answered; the message says which."""


def run_anvil(options: list[str], *, state: Path, stop: Event, announce: Callable[[str], None]) -> None:
    """Run anvil with `options` (which name a port; 0: a free one) until `stop`. Raises AnvilFailed."""
    at = options.index("--port") + 1
    port = int(options[at]) or free_port()
    if _answers(port):
        raise AnvilFailed(f"port {port} is in use")
    words = ["anvil", "--host", LOOPBACK, *options[:at], str(port), *options[at + 1 :]]
    words += ["--state", str(state), "--state-interval", "1", "--silent"]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=_end_with_parent
    )
    try:
        _wait_until_ready(process, port)
        announce(f"http://{LOOPBACK}:{port}")
        while not stop.wait(_POLL_S * 4):
            if process.poll() is not None:
                raise AnvilFailed("anvil ended by itself")
    finally:
        _end(process)


def _end_with_parent() -> None:
    """On Linux, even a kill of ours ends anvil: an orphan would go on writing the state that the next one reads."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_S
    while not _answers(port):
        if process.poll() is not None:
            raise AnvilFailed("anvil ended at once")
        if time.monotonic() > deadline:
            raise AnvilFailed(f"anvil did not answer within {START_S:.0f} seconds")
        time.sleep(_POLL_S)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_S)
