"""The engine's end of the child that talks to the hub: start it, ask it, hear how far it is, end it.

Never imports the hub's library, and never waits for ever: a child that says nothing is killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from core.framing import FrameDecoder, FramingError, encode_frame
from core.model_download.messages import (
    MAX_FRAME_BYTES,
    Fetched,
    FetchFile,
    Fetching,
    HubCommand,
    HubFault,
    HubFile,
    HubReport,
    Listed,
    ListFiles,
)
from core.model_trouble import HubTrouble, NoSpace

SILENCE_S = 300.0
SEND_S = 10.0
KILL_S = 5.0
READ_BYTES = 1 << 16
# What the child may see of our environment: libraries, the way out, and the hub's own token.
ALLOWED_VARIABLES = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "WINDIR", "USERPROFILE", "LOCALAPPDATA",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_DOWNLOAD_TIMEOUT",
)  # fmt: skip
QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
}


class HubLink:
    """One child. Get one from open_hub; ask one thing at a time."""

    def __init__(self, process: trio.Process, endpoint: str) -> None:
        self._process = process
        self._endpoint = endpoint
        self._decoder: FrameDecoder[HubReport] = FrameDecoder(HubReport, max_frame_bytes=MAX_FRAME_BYTES)
        self._ready: deque[HubReport] = deque()

    async def list_files(self, repo: str) -> Listed:
        """The GGUF files of a repository. Raises HubTrouble."""
        report = await self._ask(ListFiles(self._endpoint, repo), lambda _: None)
        if not isinstance(report, Listed):
            raise HubTrouble("The hub was asked for a list and gave something else.")
        return report

    async def fetch(self, file: HubFile, target: Path, *, of: Listed, tell: Callable[[int], None]) -> None:
        """Bring a file to target, going on from where target ends; tell is given the bytes there. Raises HubTrouble or
        NoSpace, and then what there is stays."""
        command = FetchFile(self._endpoint, of.repo, of.revision, file, str(target))
        if not isinstance(await self._ask(command, tell), Fetched):
            raise HubTrouble("The hub was asked for a file and gave something else.")

    async def _ask(self, command: HubCommand, tell: Callable[[int], None]) -> HubReport:
        assert self._process.stdin is not None
        with trio.move_on_after(SEND_S):
            try:
                await self._process.stdin.send_all(encode_frame(command))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise HubTrouble("What fetches models has died. Try again.") from error
        while True:
            match report := await self._next():
                case Fetching(done_bytes=done):
                    tell(done)
                case HubFault(message=message, is_full=True):
                    raise NoSpace(message)
                case HubFault(message=message):
                    raise HubTrouble(message)
                case _:
                    return report

    async def _next(self) -> HubReport:
        assert self._process.stdout is not None
        while not self._ready:
            with trio.move_on_after(SILENCE_S) as scope:
                received = bytes(await self._process.stdout.receive_some(READ_BYTES))
            if scope.cancelled_caught:
                raise HubTrouble(f"The hub said nothing for {SILENCE_S:.0f} s. Try again: what was fetched is kept.")
            if not received:
                raise HubTrouble("What fetches models has died. Try again: what was fetched is kept.")
            try:
                self._ready.extend(self._decoder.feed(received))
            except FramingError as error:
                raise HubTrouble("What fetches models broke down. Try again: what was fetched is kept.") from error
        return self._ready.popleft()


@asynccontextmanager
async def open_hub(endpoint: str) -> AsyncIterator[HubLink]:
    """A fresh child for the time of the block; at its end it is killed, wherever it is."""
    process = await trio.lowlevel.open_process(
        (sys.executable, "-m", "core.model_download.child"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        cwd=_root(),
        start_new_session=True,  # a Ctrl-C is for us; we then end the child
    )
    try:
        yield HubLink(process, endpoint.rstrip("/"))
    finally:
        process.kill()
        with trio.move_on_after(KILL_S, shield=True):
            await process.wait()
        with trio.CancelScope(shield=True):
            await _close(process)


async def _close(process: trio.Process) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            await pipe.aclose()


def _environment() -> dict[str, str]:
    allowed = {name: os.environ[name] for name in ALLOWED_VARIABLES if name in os.environ}
    return {**allowed, **QUIET, "PYTHONPATH": str(_root())}


def _root() -> Path:
    return Path(__file__).resolve().parent.parent.parent
