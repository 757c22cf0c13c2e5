"""What this machine gives of its model files to its peers: where store, settings and swarm meet.

Gives nothing that its owner does not share, and no path: files go by their hashes.
"""

from __future__ import annotations

import time
from random import uniform

import trio

from core.journal import Journal
from core.model_card import ModelCard, ModelVariant
from core.model_giving import given
from core.model_store import ModelStore
from core.piece_making import forget_others, manifest_of
from core.piece_manifest import PieceManifest
from core.settings import Settings, ShareModels
from p2p.model_messages import ModelHere, OneFile
from p2p.model_search import file_key
from p2p.model_source import ModelSource, SharedFile
from p2p.swarm import Swarm

PROVIDE_AFTER_S = 5.0
PROVIDE_EVERY_S = 1_800.0
PROVIDE_S = 30.0
BETWEEN_S = 1.0
# Of the 64 keys that a node keeps for one peer, the rest is for offers.
MOST_PROVIDED = 48
BYTES_PER_MEGABIT = 125_000

Given = tuple[ModelCard, ModelVariant]


class SharedModels:
    """One home's models, as far as they are given away. Implements p2p.model_source.Shelf."""

    def __init__(self, journal: Journal, models: ModelStore, *, settings: Settings) -> None:
        self._journal = journal
        self._models = models
        self._settings = settings

    def source(self) -> ModelSource:
        """The giving end of the model protocol for one stay in the swarm."""
        bytes_per_s = self._settings.upload_limit_mbps * BYTES_PER_MEGABIT
        return ModelSource(self, upload_bytes_per_s=bytes_per_s, is_open=self._is_open)

    async def run(self, swarm: Swarm) -> None:
        """Keep the provider records of what is given away, until cancelled."""
        if self._settings.share_models is ShareModels.NONE:
            return
        wanted = frozenset(file.sha256 for _, variant in self._given() for file in variant.files)
        await trio.to_thread.run_sync(forget_others, self._models.folder, wanted)
        await trio.sleep(PROVIDE_AFTER_S)
        while True:
            for _, variant in self._given()[:MOST_PROVIDED]:
                with trio.move_on_after(PROVIDE_S):
                    await swarm.provide(file_key(variant.sha256))
                await trio.sleep(BETWEEN_S)
            await trio.sleep(PROVIDE_EVERY_S * uniform(0.75, 1.25))

    def model(self, sha256: str) -> ModelHere | None:
        """See Shelf."""
        for card, variant in self._given():
            if variant.sha256 == sha256:
                files = tuple(OneFile(file.sha256, file.file_bytes) for file in variant.files)
                return ModelHere(files, card.model, card.title[:96], variant.quantization, card.license[:96])
        return None

    def file(self, sha256: str) -> SharedFile | None:
        """See Shelf."""
        for _, variant in self._given():
            for file in variant.files:
                if file.sha256 == sha256:
                    return SharedFile(sha256, file.file_bytes, self._models.folder / file.path)
        return None

    def manifest(self, file: SharedFile) -> PieceManifest | None:
        """See Shelf."""
        return manifest_of(file.path, file.sha256, store=self._models.folder)

    def _given(self) -> tuple[Given, ...]:
        return given(self._models.cards(), self._settings)

    def _is_open(self) -> bool:
        pause = self._journal.state.pause
        is_paused = pause is not None and (pause.until is None or pause.until > time.time())
        return self._settings.share_while_paused or not is_paused
