"""What llama.cpp says while it works: passed on to stderr, its errors kept, its buffer sizes added up.

Never sees a prompt or an answer: llama.cpp logs neither.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections import deque
from collections.abc import Callable

import llama_cpp.llama_cpp as C  # noqa: N812

KEPT_ERRORS = 20
_DEBUG, _ERROR, _CONTINUED = 1, 4, 5
_BUFFER = re.compile(r"(\w+)\s+(model|KV|output|compute|RS) buffer size\s*=\s*([\d.]+) MiB")
_NO_MEMORY = re.compile(r"out of memory|(failed|unable) to allocate|cannot allocate|alloc_buffer|bad_alloc", re.I)


class LlamaLog:
    """The native log while it is open; one at a time in a process. on_line hears every line."""

    def __init__(self, on_line: Callable[[str], None] | None = None) -> None:
        self.errors: deque[str] = deque(maxlen=KEPT_ERRORS)
        self._buffers: dict[tuple[str, str], float] = {}
        self._on_line = on_line
        self._level = _DEBUG
        # ctypes callbacks must outlive every call that C makes to them
        self._callback = C.llama_log_callback(lambda level, text, _user: self._take(level, text))
        C.llama_log_set(self._callback, ctypes.c_void_p(0))

    def close(self) -> None:
        """Hand the log back to llama.cpp, which writes to stderr."""
        C.llama_log_set(C.llama_log_callback(), ctypes.c_void_p(0))

    @property
    def buffer_bytes(self) -> int:
        """Everything that was reported as allocated: weights, KV, output and compute buffers."""
        return int(sum(self._buffers.values()) * 2**20)

    @property
    def speaks_of_memory(self) -> bool:
        """True when an error says that memory did not suffice."""
        return any(_NO_MEMORY.search(line) for line in self.errors)

    def last_error(self) -> str:
        """The last error in llama.cpp's own words, or nothing."""
        return self.errors[-1] if self.errors else ""

    def _take(self, level: int, text: bytes) -> None:
        line = text.decode("utf-8", "replace")
        self._level = self._level if level == _CONTINUED else level
        if self._level > _DEBUG:
            sys.stderr.write(line)
        stripped = line.strip()
        if self._level == _ERROR and stripped:
            self.errors.append(stripped)
        if found := _BUFFER.search(line):
            self._buffers[found[1], found[2]] = float(found[3])
        if self._on_line is not None:
            self._on_line(stripped)
