"""How the bytes to a peer go. Pure."""

from __future__ import annotations

from enum import Enum


class Path(Enum):
    """DIRECT: a connection of our own. RELAYED: through a relay, which adds its detour to every answer."""

    DIRECT = "direct"
    RELAYED = "relayed"
