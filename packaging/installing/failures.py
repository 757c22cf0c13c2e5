"""Say in one sentence why a set-up step failed, from the end of its log. Never guesses at an unknown one."""

from __future__ import annotations

NO_SPACE = ("no space left on device", "errno 28", "disk quota exceeded")
NO_NETWORK = (
    "temporary failure in name resolution", "name or service not known", "nodename nor servname", "getaddrinfo failed",
    "failed to establish a new connection", "network is unreachable", "connection timed out", "read timed out",
    "could not fetch url", "from versions: none", "proxyerror", "could not resolve",
)  # fmt: skip
NO_MEMORY = ("fatal error: killed", "cannot allocate memory", "out of memory", "signal terminated program cc1plus")


def explain(log_tail: str, *, step: str) -> str:
    """One sentence, without a full stop at its end, for a step that ended badly."""
    text = log_tail.lower()
    if any(sign in text for sign in NO_SPACE):
        return "The disk is full; make room, then run the same command again"
    if any(sign in text for sign in NO_MEMORY):
        return "The computer ran out of memory while compiling; close other programs, then run the same command again"
    if any(sign in text for sign in NO_NETWORK):
        return "The package index cannot be reached; check the network or the proxy, then run the same command again"
    return f"{step} did not work"
