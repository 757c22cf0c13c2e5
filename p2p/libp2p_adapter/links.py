"""The connections of a host as the swarm counts them: to whom, from where, who dialled. Decides nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import trio
from libp2p.abc import INetConn
from libp2p.rcmgr import Direction
from multiaddr import Multiaddr

from core.job import PeerId
from p2p.libp2p_adapter.limits import CLOSE_S
from p2p.peer_choice import Link
from p2p.swarm_errors import PortInUse

log = logging.getLogger(__name__)


def links_of(network: Any) -> tuple[Link, ...]:
    """One link for each connected peer."""
    found = {}
    for peer_id, connections in network.get_connections_map().items():
        for connection in connections:
            found[str(peer_id)] = Link(
                PeerId(str(peer_id)),
                _remote(connection),
                is_outbound=connection.direction is Direction.OUTBOUND,
                is_relayed=_is_relayed(connection),
            )
    return tuple(found.values())


async def close_links(network: Any, peer_id: Any) -> None:
    """Close every connection to a peer, in time or not at all."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
        for connection in tuple(network.get_connections(peer_id)):
            try:
                await connection.close()
            except Exception as error:  # noqa: BLE001  libp2p raises many kinds; the connection is no use either way
                log.debug("a connection did not close politely: %s", type(error).__name__)


async def listen_too(network: Any, ips: Sequence[str], *, port: int) -> None:
    """Listen at more addresses of this computer; one that cannot be had is left out."""
    for ip in ips:
        try:
            await network.listen(Multiaddr(f"/ip{6 if ':' in ip else 4}/{ip}/tcp/{port}"))
        except (OSError, PortInUse) as error:
            log.info("one new address cannot be listened on: %s", type(error).__name__)


def _remote(connection: INetConn) -> str:
    """Where the other end is, as a multiaddr; empty where the transport does not say."""
    try:
        place = connection.muxed_conn.get_remote_address()
    except Exception:  # noqa: BLE001  a connection that just closed, or one with no socket of its own
        return ""
    if not place:
        return ""
    host, port = place[0].partition("%")[0], place[1]
    return f"/ip{6 if ':' in host else 4}/{host}/tcp/{port}"


def _is_relayed(connection: INetConn) -> bool:
    try:
        return any("p2p-circuit" in str(address) for address in connection.get_transport_addresses())
    except Exception:  # noqa: BLE001  as above
        return False
