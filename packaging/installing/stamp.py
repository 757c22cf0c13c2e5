"""Remember what was installed, so that an unchanged environment costs nothing. Never installs.

The stamp lies in the environment itself, so that removing the one removes the other. It names the part under way too:
a stamp that still does, or none, marks an environment that was left half-made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path


class Part(Enum):
    """What can be installed by itself, in this order."""

    BASE = "base"
    LLAMA = "llama"
    TORCH = "torch"
    DEV = "dev"


@dataclass(frozen=True)
class Stamp:
    """What an environment holds: fingerprints by part, the Python it was made for, the part under way."""

    python: str
    parts: Mapping[str, str] = field(default_factory=dict)
    under_way: str = ""

    def starting(self, part: Part) -> Stamp:
        """This stamp, saying that a part is being installed."""
        return replace(self, under_way=part.value)

    def holding(self, part: Part, fingerprint: str) -> Stamp:
        """This stamp, saying that a part is there and nothing is under way."""
        return Stamp(self.python, {**self.parts, part.value: fingerprint})


@dataclass(frozen=True)
class Outstanding:
    """What is left to do: make the environment anew or not, and the parts to install."""

    remake: bool
    parts: tuple[Part, ...]

    @property
    def is_nothing(self) -> bool:
        """Whether the environment is as it should be."""
        return not self.remake and not self.parts


def fingerprint(*texts: str) -> str:
    """A short name for exactly these texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def outstanding(stamp: Stamp | None, wanted: Mapping[Part, str], *, python: str) -> Outstanding:
    """Compare what is there with what is wanted; parts that nobody asks for now are left in place."""
    if stamp is None or stamp.python != python or stamp.under_way:
        return Outstanding(True, tuple(part for part in Part if part in wanted))
    stale = (part for part in Part if part in wanted and stamp.parts.get(part.value) != wanted[part])
    return Outstanding(False, tuple(stale))


def read_stamp(path: Path) -> Stamp | None:
    """The stamp, or None where there is none that can be read."""
    try:
        found = json.loads(path.read_text())
        return Stamp(str(found["python"]), dict(found["parts"]), str(found["under_way"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_stamp(path: Path, stamp: Stamp) -> None:
    """Replace the stamp in one move, so that a crash leaves the old one or the new one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"python": stamp.python, "parts": dict(stamp.parts), "under_way": stamp.under_way}))
    fresh.replace(path)
