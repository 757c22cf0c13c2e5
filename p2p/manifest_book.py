"""Which source gave which manifest: they are grouped by it, one group is gone by, and a wrong file condemns its group.

Pure. Never mixes the pieces of two manifests.
"""

from __future__ import annotations

from core.job import PeerId
from core.piece_manifest import PieceManifest


class ManifestBook:
    """The manifests of one file."""

    def __init__(self) -> None:
        self._manifests: dict[str, PieceManifest] = {}
        self._key_of: dict[PeerId, str] = {}
        self._condemned: set[str] = set()
        self.chosen: PieceManifest | None = None

    def add(self, peer: PeerId, manifest: PieceManifest) -> None:
        """This source goes by this manifest."""
        self._manifests.setdefault(manifest.key, manifest)
        self._key_of[peer] = manifest.key

    def is_chosen(self, peer: PeerId) -> bool:
        """Whether this source goes by the manifest that we go by."""
        return self.chosen is not None and self._key_of.get(peer) == self.chosen.key

    def is_condemned(self, peer: PeerId) -> bool:
        """Whether this source's manifest made a wrong file."""
        return self._key_of.get(peer, "") in self._condemned

    def choose(self, among: frozenset[PeerId] | None = None) -> PieceManifest | None:
        """Go by the manifest that most sources (of these) gave; None when there is none, or all made wrong files. The
        first of equals stays."""
        counts = {key: 0 for key in self._manifests if key not in self._condemned}
        for peer, key in self._key_of.items():
            if key in counts and (among is None or peer in among):
                counts[key] += 1
        best = max(counts.items(), key=lambda item: item[1], default=("", 0))
        self.chosen = self._manifests[best[0]] if best[1] else None
        return self.chosen

    def condemn_chosen(self) -> frozenset[PeerId]:
        """The manifest that we went by made a wrong file: who gave it."""
        if self.chosen is None:
            return frozenset()
        key = self.chosen.key
        self._condemned.add(key)
        self.chosen = None
        return frozenset(peer for peer, given in self._key_of.items() if given == key)
