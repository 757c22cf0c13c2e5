"""What a worker child gives up before it touches a model: privileges, and memory beyond its share.

Linux only; elsewhere it does nothing. Never fails the child: a kernel that refuses leaves things as they were.
"""

from __future__ import annotations

import ctypes
import sys

MEMORY_LIMIT_VARIABLE = "STARLING_WORKER_MEMORY_BYTES"
_PR_SET_NO_NEW_PRIVS = 38


def confine(memory_bytes: int | None) -> None:
    """Call before any thread starts. memory_bytes bounds private memory (RLIMIT_DATA), not a memory-mapped model."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if memory_bytes is not None:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
