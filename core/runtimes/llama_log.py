"""What llama.cpp says while it works: passed on to stderr, its errors kept, its buffers added up by device.

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
HOST = "CPU"
_DEBUG, _ERROR, _CONTINUED = 1, 4, 5
_MIB = 2**20
_BUFFER = re.compile(r"(\w+)\s+(model|KV|output|compute|RS) buffer size\s*=\s*([\d.]+) MiB")
_FILE = re.compile(r"print_info: file size\s*=\s*([\d.]+) ([KMG])iB")
_CACHE = re.compile(r": size\s*=\s*([\d.]+) MiB \(\s*\d+ cells,\s*(\d+) layers")
_PLACED = re.compile(r"load_tensors: layer\s+(\d+) assigned to device (\S+),")
_CACHED = re.compile(r"layer\s+(\d+): dev = (\S+)")
_NO_MEMORY = re.compile(r"out of memory|(failed|unable) to allocate|cannot allocate|alloc_buffer|bad_alloc", re.I)
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


class LlamaLog:
    """The native log while it is open; one at a time in a process. on_line hears every line.

    layers: which device each layer was given to (the last is the output's). cache_layers: the same of each layer's KV,
    as often as a cache was made of it. cache_bytes: what all caches take, also when they were only simulated.
    """

    def __init__(self, on_line: Callable[[str], None] | None = None) -> None:
        self.errors: deque[str] = deque(maxlen=KEPT_ERRORS)
        self.layers: dict[int, str] = {}
        self.cache_layers: list[str] = []
        self.cache_bytes = 0.0
        self._buffers: dict[tuple[str, str], float] = {}
        self._file_bytes = 0.0
        self._on_line = on_line
        self._level = _DEBUG
        # ctypes callbacks must outlive every call that C makes to them
        self._callback = C.llama_log_callback(lambda level, text, _user: self._take(level, text))
        C.llama_log_set(self._callback, ctypes.c_void_p(0))

    def close(self) -> None:
        """Hand the log back to llama.cpp, which writes to stderr."""
        C.llama_log_set(C.llama_log_callback(), ctypes.c_void_p(0))

    @property
    def bytes_by_device(self) -> dict[str, int]:
        """Weights, KV, output and compute buffers by device; what is the host's (pinned too) is CPU's.

        Weights that were repacked lie in the host's memory once more, mapped from the file: those pages go when memory
        is short, so that only what was not repacked counts of them.
        """
        sizes: dict[str, float] = {}
        repacked = sum(size for (name, _), size in self._buffers.items() if name.endswith("_REPACK"))
        for (name, _), size in self._buffers.items():
            if name == "CPU_Mapped" and repacked and self._file_bytes:
                size = min(size, max(0.0, self._file_bytes - repacked))
            sizes[device_of(name)] = sizes.get(device_of(name), 0.0) + size
        return {device: round(size) for device, size in sizes.items()}

    @property
    def buffer_bytes(self) -> int:
        """What bytes_by_device says of all devices together."""
        return sum(self.bytes_by_device.values())

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
        self._count(line)
        if self._on_line is not None:
            self._on_line(stripped)

    def _count(self, line: str) -> None:
        if found := _BUFFER.search(line):
            self._buffers[found[1], found[2]] = float(found[3]) * _MIB
        elif found := _CACHE.search(line):
            self.cache_bytes += float(found[1]) * _MIB
        elif found := _FILE.search(line):
            self._file_bytes = float(found[1]) * _UNITS[found[2]]
        elif found := _PLACED.search(line):
            self.layers[int(found[1])] = found[2]
        elif found := _CACHED.search(line):
            self.cache_layers.append(found[2])


def device_of(buffer: str) -> str:
    """The device that a buffer of this name lies on: CPU_Mapped, CPU_REPACK and CUDA_Host are the host's."""
    if buffer.startswith(HOST) or buffer.endswith("_Host"):
        return HOST
    return buffer.partition("_")[0]
