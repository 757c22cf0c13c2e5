"""Carries out what the owner asks of the models: the same for the engine and for a command line without one.

Never decides how a file is made or whether there is room for it: the store does. Each work can be stopped.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import assert_never

import trio

from core import commands as c
from core import events as e
from core.journal import Journal
from core.model_card import ModelCard, added_text, damage_text
from core.model_download.source import hub_model
from core.model_files import share
from core.model_shelf import Held
from core.model_store import ModelStore
from core.model_trouble import UnknownModel
from core.node_state import NodeState, Presence
from core.work_progress import progress_of

STOPPED = "Stopped. Nothing half done is left; what was fetched is kept for the next time."


class ModelWork:
    """Owns the work on models that is under way."""

    def __init__(self, journal: Journal, models: ModelStore) -> None:
        self._journal = journal
        self._models = models
        self._scopes: set[trio.CancelScope] = set()

    async def execute(self, command: c.ModelCommand) -> c.Reply:
        """Carry out one command. Raises ModelStoreError."""
        if isinstance(command, c.StopModelWork):
            return self._stop()
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                return await self._execute(command)
            finally:
                self._scopes.discard(scope)
                with trio.CancelScope(shield=True):
                    await record_models(self._journal, self._models)
        return c.Refused(STOPPED)

    async def _execute(
        self, command: c.AddModel | c.InstallModel | c.QuantizeModel | c.VerifyModels | c.RemoveModel
    ) -> c.Reply:
        match command:
            case c.AddModel():
                return await self._add(command)
            case c.InstallModel():
                return await self._install(command)
            case c.QuantizeModel():
                return await self._quantize(command)
            case c.VerifyModels():
                return await self._verify(command.model)
            case c.RemoveModel():
                return await self._remove(command)
            case _:
                assert_never(command)

    async def _add(self, command: c.AddModel) -> c.Reply:
        known = {card.model for card in self._models.cards()}
        with progress_of(self._journal, "Adding the model") as tell:
            card = await self._models.add(Path(command.path), name=command.name or None, on_progress=tell)
        return c.Done(added_text(card, is_new=card.model not in known))

    async def _install(self, command: c.InstallModel) -> c.Reply:
        known = {card.model for card in self._models.cards()}
        with progress_of(self._journal, f"Installing {command.source}") as tell:
            wanted = hub_model(command.source)
            card = await self._models.install(wanted, name=command.name or None, on_progress=tell)
        return c.Done(added_text(card, is_new=card.model not in known))

    async def _quantize(self, command: c.QuantizeModel) -> c.Reply:
        model, quantization = command.model, command.quantization.upper()
        with progress_of(self._journal, f"Quantizing {model} to {quantization}") as tell:
            variant = await self._models.ensure_variant(model, quantization, on_progress=tell)
        return c.Done(f"{model} is there as {quantization}, {variant.file_bytes / 1e6:.1f} MB.")

    async def _verify(self, model: str) -> c.Reply:
        cards = [card for card in self._models.cards() if not model or card.model == model]
        if model and not cards:
            raise UnknownModel(f"There is no model {model} here.")
        places = [(card, variant) for card in cards for variant in card.variants]
        sentences, files = [], 0
        with progress_of(self._journal, "Checking the models") as tell:
            for index, (card, variant) in enumerate(places):
                told = share(tell, index, count=len(places))
                found = await self._models.verify(card.model, variant.quantization, on_progress=told)
                files += len(found.files)
                sentences += [damage_text(card, found)] if found.damaged else []
        if sentences:
            return c.Refused(" ".join(sentences))
        return c.Done(f"All {files} files are what they were." if files != 1 else "The file is what it was.")

    async def _remove(self, command: c.RemoveModel) -> c.Reply:
        model, quantization = command.model, command.quantization.upper()
        if any(name == model and quantization in ("", held) for name, held in in_use(self._journal.state)):
            return c.Refused(f"{model} is being served. Leave the network first.")
        await self._models.remove(model, quantization)
        return c.Done(f"{model} {quantization} is removed." if quantization else f"{model} is removed.")

    def _stop(self) -> c.Reply:
        if not self._scopes:
            return c.Refused("Nothing is being done to the models.")
        for scope in self._scopes:
            scope.cancel()
        return c.Done("The work on the models is being stopped.")


async def record_models(journal: Journal, models: ModelStore) -> None:
    """Let the state know what is in the store now."""
    now = time.time()
    cards: dict[str, ModelCard] = {card.model: card for card in models.cards()}
    known = journal.state.models
    changed = [e.ModelAdded(now, card) for name, card in cards.items() if known.get(name) != card]
    await journal.record(*changed, *(e.ModelRemoved(now, name) for name in known if name not in cards))


def in_use(state: NodeState) -> Held:
    """(model, quantization) of what is being served, or is about to be: it must stay on disk."""
    held = set()
    if state.worker is not None:
        held.add((state.worker.model, state.worker.quantization))
    if state.choice is not None and (state.presence is not Presence.IDLE or state.is_join_wanted):
        held.add((state.choice.plan.model, state.choice.plan.quantization))
    return frozenset(held)
