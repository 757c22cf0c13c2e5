"""Counts what one host's links carry and refuse. Cheap: integers that the hot paths add to; nothing about anybody."""

from __future__ import annotations

from p2p.swarm_metrics import SwarmMetrics


class Traffic:
    """Each attribute is the count of the same name in SwarmMetrics."""

    def __init__(self) -> None:
        self.connections_in = 0
        self.connections_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.streams_in = 0
        self.streams_out = 0
        self.dials = 0
        self.dials_failed = 0
        self.refused_connections = 0
        self.refused_handshakes = 0
        self.refused_streams = 0
        self.failed_streams = 0
        self.refused_dht_queries = 0
        self.cut_connections = 0
        self.service_restarts = 0

    def snapshot(self, *, connections: int, provider_records: int) -> SwarmMetrics:
        """The counts now."""
        return SwarmMetrics(connections=connections, provider_records=provider_records, **vars(self))
