"""Where benchmarks keep what is slow to make: synthetic models and built peers. Never a folder of the repository."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "STARLING_BENCH_CACHE"


def cache_folder(*parts: str) -> Path:
    """A folder of the cache, made when it is not there; STARLING_BENCH_CACHE moves the whole."""
    base = os.environ.get(VARIABLE, "")
    home = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "starling-bench"
    folder = home.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
