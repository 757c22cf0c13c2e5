"""What a benchmark found: figures by name, and the peers that they were measured beside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Report:
    """Figures carry their unit in their name. failure says which promise was broken; empty: none."""

    figures: dict[str, float]
    peers: dict[str, Any] = field(default_factory=dict)
    failure: str = ""

    def object(self) -> dict[str, Any]:
        return {"figures": self.figures, "peers": self.peers}

    def table(self) -> str:
        width = max(len(name) for name in self.figures)
        lines = [f"{name:<{width}}  {value:>12,.3f}" for name, value in self.figures.items()]
        return "\n".join([*lines, *(f"{name}: {value}" for name, value in self.peers.items())])
