"""Where the set-up keeps things in a checkout. Never creates or reads them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """One checkout."""

    root: Path

    @property
    def venv(self) -> Path:
        """The environment that everything is installed in."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """The environment's Python."""
        return self.tool("python")

    @property
    def stamp(self) -> Path:
        """What the environment holds."""
        return self.venv / "starling-stamp.json"

    @property
    def room(self) -> Path:
        """The set-up's own folder: lock, log, built wheels."""
        return self.root / ".setup"

    @property
    def log(self) -> Path:
        """Everything that pip and the compilers said in the last set-up."""
        return self.room / "setup.log"

    def lock_file(self, name: str) -> Path:
        """A file of exact versions."""
        return self.root / "packaging" / f"requirements{name}.lock"

    def tool(self, name: str) -> Path:
        """A program of the environment."""
        return self.venv / "Scripts" / f"{name}.exe" if sys.platform == "win32" else self.venv / "bin" / name
