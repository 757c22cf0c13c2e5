"""How llama.cpp names the shards of one model: `NAME-00001-of-00003.gguf`, and so on.

Pure. Never looks whether a file is there.
"""

from __future__ import annotations

import re

MAX_SHARDS = 512
_SHARD = re.compile(r"(?P<prefix>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.DOTALL)


def shard_names(name: str) -> tuple[str, ...]:
    """Every name of the set that this one belongs to, in order; only itself when it is no shard."""
    found = _SHARD.fullmatch(name)
    if found is None:
        return (name,)
    number, count = int(found["number"]), int(found["count"])
    if not 1 <= number <= count <= MAX_SHARDS:
        return (name,)
    return tuple(shard_name(found["prefix"], index, count=count) for index in range(count))


def shard_name(prefix: str, index: int, *, count: int) -> str:
    """The name of the shard at this index (from 0); a set of one has no numbers in its name."""
    return f"{prefix}.gguf" if count == 1 else f"{prefix}-{index + 1:05d}-of-{count:05d}.gguf"
