"""The child that talks to the hub: `python -m core.model_download.child`. Frames come on stdin and go out on stdout.

The only importer of huggingface_hub, whose weight and blocking calls stay out of the engine. Never prints or logs: the
owner's access token is in its environment. The end of stdin ends it at once, wherever it is.
"""

from __future__ import annotations

import io
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, assert_never, cast
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]
from typing_extensions import Buffer

from core.framing import FrameDecoder, FramingError, encode_frame
from core.model_download.faults import fault_of
from core.model_download.messages import (
    MAX_FRAME_BYTES,
    Fetched,
    FetchFile,
    Fetching,
    HubCommand,
    HubFile,
    HubReport,
    Listed,
    ListFiles,
)

TELL_EVERY_S = 0.2
LIST_TIMEOUT_S = 20.0
READ_BYTES = 1 << 16
PIECE_BYTES = 1 << 20
MAX_QUEUED = 8
EXIT_BAD_FRAME = 3
TOKEN_VARIABLE = "HF_TOKEN"
THIS_COMPUTER = ("localhost", "127.0.0.1", "::1")

Send = Callable[[HubReport], None]


def main() -> None:
    """Carry out commands until stdin ends. The library would else write in pieces of ten times this size, and lose as
    much at each interruption."""
    constants.DOWNLOAD_CHUNK_SIZE = PIECE_BYTES
    wire = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    # Full: the reader waits, and so does whoever writes to it.
    commands: queue.Queue[HubCommand] = queue.Queue(MAX_QUEUED)
    threading.Thread(target=_read, args=(commands,), daemon=True).start()

    def send(report: HubReport) -> None:
        wire.write(encode_frame(report))

    while True:
        send(_answer(commands.get(), send))


def _read(commands: queue.Queue[HubCommand]) -> None:
    decoder: FrameDecoder[HubCommand] = FrameDecoder(HubCommand, max_frame_bytes=MAX_FRAME_BYTES)
    try:
        while received := os.read(0, READ_BYTES):
            for command in decoder.feed(received):
                commands.put(command)
    except FramingError:
        os._exit(EXIT_BAD_FRAME)
    os._exit(0)


def _answer(command: HubCommand, send: Send) -> HubReport:
    try:
        match command:
            case ListFiles():
                return _list(command)
            case FetchFile():
                return _fetch(command, send)
            case _:
                assert_never(command)
    except Exception as error:  # noqa: BLE001 - the process edge: a server can make the library stumble anywhere
        return fault_of(error, command)


def _list(command: ListFiles) -> Listed:
    api = HfApi(endpoint=command.endpoint, token=_token(command.endpoint))
    found = api.model_info(command.repo, files_metadata=True, timeout=LIST_TIMEOUT_S)
    files = tuple(_file(one) for one in found.siblings or () if one.rfilename.lower().endswith(".gguf"))
    return Listed(command.repo, found.sha or "main", files)


def _file(found: RepoSibling) -> HubFile:
    size = found.lfs.size if found.lfs is not None else found.size
    return HubFile(found.rfilename, size or 0, found.lfs.sha256 if found.lfs is not None else "")


def _fetch(command: FetchFile, send: Send) -> Fetched:
    target, whole = Path(command.target), command.file.file_bytes
    url = hf_hub_url(command.repo, command.file.name, revision=command.revision, endpoint=command.endpoint)
    # Compressed answers cannot be resumed. A redirect to another host is followed without the token.
    headers = build_hf_headers(token=_token(command.endpoint), headers={"Accept-Encoding": "identity"})
    with target.open("r+b" if target.exists() else "w+b") as file:
        done = file.seek(0, os.SEEK_END)
        if done > whole:
            done = file.truncate(file.seek(0))
        counted = cast(BinaryIO, _Counted(file, send, limit_bytes=whole))
        http_get(url, counted, resume_size=done, headers=headers, expected_size=whole)
        file.flush()
        os.fsync(file.fileno())
    return Fetched()


def _token(endpoint: str) -> str | bool:
    """The owner's token, from the hub's own variable only, and never in the clear over a network; False: none."""
    is_safe = urlsplit(endpoint).scheme == "https" or urlsplit(endpoint).hostname in THIS_COMPUTER
    return (is_safe and os.environ.get(TOKEN_VARIABLE)) or False


class _Counted(io.RawIOBase):
    """A file that tells how long it has become, and takes no more than was promised."""

    def __init__(self, file: BinaryIO, send: Send, *, limit_bytes: int) -> None:
        self._file = file
        self._send = send
        self._limit_bytes = limit_bytes
        self._told_at = 0.0

    def write(self, piece: Buffer, /) -> int:
        if self._file.tell() + memoryview(piece).nbytes > self._limit_bytes:
            raise OSError("more than was promised")
        written = self._file.write(piece)
        if time.monotonic() - self._told_at >= TELL_EVERY_S:
            self._told_at = time.monotonic()
            self._send(Fetching(self._file.tell()))
        return written

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def truncate(self, size: int | None = None, /) -> int:
        return self._file.truncate(size)


if __name__ == "__main__":
    main()
