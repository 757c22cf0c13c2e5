"""What `starling peers` prints: a table for people, an object for programs. Pure but for the age of a connection."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from app.cli_text import table
from core.node_state import NodeState
from core.peer_seen import PeerSeen

SHORT = 12
MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0


def peers_object(state: NodeState) -> dict[str, Any]:
    """`starling peers --json`."""
    seen = state.peers_seen
    connected = [peer for peer in seen.peers if peer.since is not None]
    return {
        "presence": state.presence.value,
        "peer_id": state.peer_id,
        "addresses": list(state.addresses),
        "connected": len(connected),
        "relayed": sum(peer.is_relayed for peer in connected),
        "known": seen.known,
        "peers": [{**msgspec.to_builtins(peer), "is_connected": peer.since is not None} for peer in seen.peers],
    }


def peers_text(state: NodeState) -> str:
    """`starling peers`."""
    seen, now = state.peers_seen, time.time()
    connected = [peer for peer in seen.peers if peer.since is not None]
    if not seen.known:
        where = "This computer is in the network, and" if state.joined_at is not None else "Since the engine started,"
        return f"{where} no peer is known yet."
    head = ("Peer", "Path", "Round trip", "Since", "Learned from", "Score", "Address")
    rows = [(*_row(peer, now), peer.address) for peer in seen.peers]
    hidden = seen.known - len(seen.peers)
    more = f"\n{hidden} more are known." if hidden > 0 else ""
    return f"{table([head, *rows])}\n\n{len(connected)} connected, {seen.known} known.{more}"


def _row(peer: PeerSeen, now: float) -> tuple[str, ...]:
    score = "-" if peer.score is None else f"{peer.score:.2f}"
    sources = ", ".join(peer.sources)
    rtt = "-" if peer.rtt_ms is None else f"{peer.rtt_ms} ms"
    return f"…{peer.peer_id[-SHORT:]}", _path(peer), rtt, _age(peer, now), sources, score


def _path(peer: PeerSeen) -> str:
    if peer.since is None:
        return "not connected"
    return f"{'relayed' if peer.is_relayed else 'direct'}, {'out' if peer.is_outbound else 'in'}"


def _age(peer: PeerSeen, now: float) -> str:
    at = peer.since if peer.since is not None else peer.seen_at
    if at is None:
        return "never"
    age_s = max(0.0, now - at)
    for unit_s, name in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min")):
        if age_s >= unit_s:
            return f"{age_s / unit_s:.0f} {name}{'' if peer.since is not None else ' ago'}"
    return f"{age_s:.0f} s{'' if peer.since is not None else ' ago'}"
