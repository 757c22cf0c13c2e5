"""Plain JSON-RPC to a chain's node, for what is done before there is an escrow to talk to. Blocking: use a thread.

Never retries and never signs. Every answer is bounded in size and time.
"""

from __future__ import annotations

import urllib.request
from typing import Any

import msgspec

from core.payments.chain_values import ChainUnavailable, TransactionRefused

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 4 << 20


class JsonRpc:
    """One node. what: how people call it, in errors."""

    def __init__(self, url: str, *, what: str = "The chain's node") -> None:
        self._url = url
        self._what = what

    def ask(self, method: str, *params: Any) -> Any:
        """One call. Raises ChainUnavailable, or TransactionRefused with the node's words."""
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
                answer = msgspec.json.decode(reply.read(MAX_ANSWER_BYTES))
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise ChainUnavailable(f"{self._what} does not answer.") from error
        if not isinstance(answer, dict) or not answer.keys() & {"result", "error"}:
            raise ChainUnavailable(f"{self._what} gave no sensible answer to {method}.")
        if refusal := answer.get("error"):
            words = refusal.get("message") if isinstance(refusal, dict) else refusal
            raise TransactionRefused(f"{self._what} refused {method}: {str(words)[:200].rstrip('.')}.")
        return answer["result"]

    def number(self, method: str, *params: Any) -> int:
        """A call whose answer is a number. Raises as ask does."""
        answer = self.ask(method, *params)
        try:
            return int(answer, 16)
        except (TypeError, ValueError) as error:
            raise ChainUnavailable(f"{self._what} gave no sensible answer to {method}.") from error
