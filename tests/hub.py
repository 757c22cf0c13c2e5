"""A model hub for tests, on this computer: of the Hugging Face hub's HTTP interface, what fetching a model uses.

GET /api/models/REPO lists files with their LFS hashes; HEAD and GET /REPO/resolve/REVISION/FILE redirect to a store of
contents on another host name, which gives ranges. It can cut answers short, slow them down, lie, and refuse.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECE = 1 << 16


class Hub:
    """What the hub has, how it behaves, and what it was asked. cut_at: every answer with contents ends at this byte of
    the file; pause_s: a wait before each piece; status: what every question is answered with; answer: to each list."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.lies: set[str] = set()
        self.cut_at: int | None = None
        self.pause_s = 0.0
        self.status = 0
        self.answer: bytes | None = None
        self.has_ranges = True
        self.asked: list[tuple[str, str, str, str]] = []
        self.endpoint = ""

    def file(self, name: str) -> bytes:
        """The contents that this hash, or this name, stands for."""
        files = [pair for repo in self.repos.values() for pair in repo.items()]
        return next(body for other, body in files if name in (other, hashlib.sha256(body).hexdigest()))

    def ranges(self) -> list[str]:
        """The Range of each question for contents, in order; empty: from the start."""
        return [span for method, path, span, _ in self.asked if method == "GET" and path.startswith("/cdn/")]

    def tokens(self, start: str) -> set[str]:
        """What was sent as Authorization with questions to paths that start so."""
        return {token for _, path, _, token in self.asked if path.startswith(start)}


@contextmanager
def open_hub_server() -> Iterator[Hub]:
    """A hub for the time of the block."""
    hub = Hub()

    class Answers(_Answers):
        pass

    Answers.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Answers(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # noqa: N802
        self._answer()

    def do_HEAD(self) -> None:  # noqa: N802
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        headers = self.headers
        self.hub.asked.append((self.command, path, headers.get("Range", ""), headers.get("Authorization", "")))
        if self.hub.status:
            self._send(self.hub.status, b"no")
        elif path.startswith("/cdn/"):
            self._send_contents(path.removeprefix("/cdn/"))
        elif path.startswith("/api/models/"):
            self._list("/".join(path.split("/")[3:5]))
        else:
            _, owner, name, _, _, file = path.split("/", 5)
            self._redirect(f"{owner}/{name}", file)

    def _is_open(self, repo: str) -> bool:
        if repo in self.hub.repos and (repo not in self.hub.gated or self.headers.get("Authorization")):
            return True
        code = ("GatedRepo", 403) if repo in self.hub.gated else ("RepoNotFound", 404)
        self._send(code[1], b"{}", {"X-Error-Code": code[0]})
        return False

    def _list(self, repo: str) -> None:
        if self.hub.answer is not None:
            return self._send(200, self.hub.answer)
        if repo not in self.hub.repos:
            return self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        siblings = [{"rfilename": "README.md", "size": 3, "blobId": "00"}]
        for name, body in self.hub.repos[repo].items():
            sha256 = hashlib.sha256(body + (b"x" if name in self.hub.lies else b"")).hexdigest()
            lfs = {"sha256": sha256, "size": len(body), "pointerSize": 134}
            siblings.append({"rfilename": name, "size": len(body), "blobId": "00", "lfs": lfs})
        answer = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
        return self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _redirect(self, repo: str, file: str) -> None:
        if not self._is_open(repo):
            return None
        if file not in self.hub.repos[repo]:
            return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        body = self.hub.repos[repo][file]
        sha256 = hashlib.sha256(body).hexdigest()
        place = self.hub.endpoint.replace("127.0.0.1", "localhost")
        headers = {"X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(body)), "X-Linked-Etag": f'"{sha256}"'}
        return self._send(302, b"", {**headers, "Location": f"{place}/cdn/{sha256}"})

    def _send_contents(self, sha256: str) -> None:
        body = self.hub.file(sha256)
        span = self.headers.get("Range", "") if self.hub.has_ranges else ""
        start = int(span.removeprefix("bytes=").partition("-")[0]) if span else 0
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(body) - start))
        if span:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        end = len(body) if self.hub.cut_at is None else min(len(body), self.hub.cut_at)
        for at in range(start, end, PIECE):
            time.sleep(self.hub.pause_s)
            self.wfile.write(body[at : min(end, at + PIECE)])
        self.close_connection = end < len(body)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
