"""The development chain's JSON-RPC over HTTP, on the loopback interface only.

One thread per connection, at most MAX_CONNECTIONS; keep-alive; Nagle off (or every call costs 40 ms). A request that a
web page sent is refused: a page must not drive the chain behind its owner's back. Knows no method: devnet_methods does.
"""

from __future__ import annotations

import os
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore
from typing import Any

import msgspec

from app.devnet_methods import Methods, RpcError

LOOPBACK = "127.0.0.1"
MAX_CONNECTIONS = 64  # one more is closed at once; its client tries again
MAX_BODY_BYTES = 1 << 20
MAX_BATCH = 100
IDLE_S = 120.0

_PARSE_ERROR = -32700
_INVALID_REQUEST = -32600
_INTERNAL_ERROR = -32603


class RpcServer(ThreadingHTTPServer):
    """Serve these methods. Raises OSError if the port is taken; port 0 takes a free one."""

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # elsewhere it would let two servers share the port
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, methods: Methods, port: int) -> None:
        self.methods = methods
        self._places = BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__((LOOPBACK, port), _Exchange)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.server_port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread for this connection, if there is room."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Give the place back at the end, whatever happened."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Exchange(BaseHTTPRequestHandler):
    server: RpcServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one segment
    timeout = IDLE_S

    def do_POST(self) -> None:  # noqa: N802  the name that http.server looks for
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Origin") is not None:
            self._refuse(HTTPStatus.FORBIDDEN)
        elif not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self._answer(_replies(self.server.methods, self.rfile.read(int(length))))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: requests hold raw transactions."""

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self.send_error(status)

    def _answer(self, reply: Any) -> None:
        body = msgspec.json.encode(reply)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def _replies(methods: Methods, body: bytes) -> Any:
    try:
        request = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _failure(None, RpcError(_PARSE_ERROR, "parse error"))
    if not isinstance(request, list):
        return _reply(methods, request)
    if not 1 <= len(request) <= MAX_BATCH:
        return _failure(None, RpcError(_INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} requests"))
    return [_reply(methods, one) for one in request]


def _reply(methods: Methods, request: Any) -> dict[str, Any]:
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        return _failure(None, RpcError(_INVALID_REQUEST, "invalid request"))
    number, params = request.get("id"), request.get("params") or []
    if not isinstance(params, list):
        return _failure(number, RpcError(_INVALID_REQUEST, "params must be a list"))
    try:
        return {"jsonrpc": "2.0", "id": number, "result": methods.call(request["method"], params)}
    except RpcError as error:
        return _failure(number, error)
    except Exception as error:  # noqa: BLE001  the edge of the process: one bad request must not end the server
        return _failure(number, RpcError(_INTERNAL_ERROR, f"internal error: {type(error).__name__}"))


def _failure(number: Any, error: RpcError) -> dict[str, Any]:
    shown: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.data is not None:
        shown["data"] = error.data
    return {"jsonrpc": "2.0", "id": number, "error": shown}


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
