"""Who says that he provides what, for the keys near us in Kademlia: bounded in number, size and time.

Stock keeps every key that anyone ever names for 48 hours, each with as many addresses as fit into 4 MiB.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from libp2p.kad_dht.provider_store import ProviderStore
from libp2p.peer.peerinfo import PeerInfo

from p2p.libp2p_adapter.limits import (
    MAX_DHT_KEY_BYTES,
    MAX_KEYS_A_PROVIDER,
    MAX_PROVIDER_ADDRESSES,
    MAX_PROVIDER_KEYS,
    PROVIDER_RECORD_S,
    SWEEP_EVERY_S,
)


class ProviderRecords(ProviderStore):  # type: ignore[misc]
    """Replaces the store of a KadDHT."""

    def __init__(self, host: Any, peer_routing: Any) -> None:
        super().__init__(host=host, peer_routing=peer_routing)
        self._keys_of: Counter[str] = Counter()
        self._swept_at = 0.0

    def add_provider(self, key: bytes, provider: PeerInfo) -> None:
        """Keep or renew one record. Without room it is not kept: who has a place is not pushed out by newcomers."""
        peer = str(provider.peer_id)
        if not 0 < len(key) <= MAX_DHT_KEY_BYTES:
            return
        self._drop_expired(key)
        is_known = peer in self.providers.get(key, {})
        if not is_known and not self._has_room(key, peer):
            return
        super().add_provider(key, PeerInfo(provider.peer_id, list(provider.addrs)[:MAX_PROVIDER_ADDRESSES]))
        if not is_known and peer in self.providers[key]:
            self._keys_of[peer] += 1

    def get_providers(self, key: bytes) -> list[PeerInfo]:
        """Those whose record is not over."""
        self._drop_expired(key)
        return list(super().get_providers(key))

    def cleanup_expired(self) -> None:
        """Drop every record that is over."""
        self._swept_at = time.time()
        for key in tuple(self.providers):
            self._drop_expired(key)

    def _has_room(self, key: bytes, peer: str) -> bool:
        is_room = key in self.providers or len(self.providers) < MAX_PROVIDER_KEYS
        if is_room and self._keys_of[peer] < MAX_KEYS_A_PROVIDER:
            return True
        if time.time() - self._swept_at < SWEEP_EVERY_S:
            return False
        self.cleanup_expired()
        return self._has_room(key, peer)

    def _drop_expired(self, key: bytes) -> None:
        earliest = time.time() - PROVIDER_RECORD_S
        records = self.providers.get(key, {})
        for peer in [peer for peer, record in records.items() if record.timestamp <= earliest]:
            del records[peer]
            self._keys_of[peer] -= 1
        if not records:
            self.providers.pop(key, None)
