"""Which of two connections to one peer is spared, when both dialled at once or a direct one joins a relayed one.

Stock trims by age and streams, so that each side may close what the other keeps. Both sides of ours agree.
"""

from __future__ import annotations

from typing import Any

from libp2p.abc import ConnectionType
from libp2p.rcmgr.metrics import Direction


def doomed_of(older: Any, newer: Any, *, own_id: str, peer_id: str) -> Any:
    """The connection to close, or None where that is for the peer to say. Both are libp2p's SwarmConn."""
    is_relayed = [one.get_connection_type() is ConnectionType.RELAYED for one in (older, newer)]
    if is_relayed[0] != is_relayed[1]:
        return older if is_relayed[0] else newer
    if older.direction == newer.direction:
        return older if newer.direction is Direction.OUTBOUND else None
    kept = Direction.OUTBOUND if own_id < peer_id else Direction.INBOUND
    return older if newer.direction == kept else newer
