"""What the swarm's links have carried and refused, as plain counts. Names no peer and no address. Pure."""

from __future__ import annotations

import msgspec


class SwarmMetrics(msgspec.Struct, frozen=True):
    """Counts since the host was started; connections and provider_records are what there is now."""

    connections: int = 0
    connections_in: int = 0
    connections_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    streams_in: int = 0
    streams_out: int = 0
    dials: int = 0
    dials_failed: int = 0
    refused_connections: int = 0
    refused_handshakes: int = 0
    refused_streams: int = 0
    failed_streams: int = 0
    refused_dht_queries: int = 0
    cut_connections: int = 0
    service_restarts: int = 0
    provider_records: int = 0
    bans: int = 0
