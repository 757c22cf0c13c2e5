"""One folder of models and its list: what is in it, what comes in, what goes out. Every change is whole or not at all.

Blocks: call it in a thread. Files are written beside their place first, and the list before the rename, so that what a
killed run leaves belongs to no card and is cleared away before the next change. Never opens or makes a model.
"""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path

import msgspec

from core.model_card import MAX_NAME_CHARACTERS, ModelCard, ModelVariant, with_variant
from core.model_files import delete
from core.model_index import INDEX, PART, read_index, write_index
from core.model_trouble import ModelStoreError, UnknownModel

OURS = (PART, INDEX)

class ModelFolder:
    """Read it in as many processes as you like; change it in one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = threading.Lock()
        self._is_clean = False
        self._cards = {card.model: card for card in read_index(path)}

    def cards(self) -> tuple[ModelCard, ...]:
        """The models there are, oldest first."""
        return tuple(self._cards.values())

    def card(self, model: str) -> ModelCard:
        """Raises UnknownModel."""
        if model not in self._cards:
            raise UnknownModel(f"There is no model {model} here.")
        return self._cards[model]

    def variant(self, model: str, quantization: str) -> ModelVariant:
        """Raises UnknownModel."""
        variant = self.card(model).variant(quantization)
        if variant is None:
            raise UnknownModel(f"{model} is not on disk as {quantization}.")
        return variant

    def is_there(self, variant: ModelVariant) -> bool:
        """Whether every file of it is on disk; what is in them is another question."""
        return all((self.path / file.path).exists() for file in variant.files)

    def clean(self) -> None:
        """Before the first change: delete what a killed run left, and forget models whose files are gone."""
        if self._is_clean:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        for leftover in self.path.rglob(f"*{PART}"):
            delete(leftover)
        for card in self.cards():
            there = tuple(variant for variant in card.variants if self.is_there(variant))
            if card.source_quantization not in {variant.quantization for variant in there}:
                self.remove(card.model)
            elif there != card.variants:
                self.put(msgspec.structs.replace(card, variants=there))
        for card in self.cards():
            self._clear_strangers(card)
        self._is_clean = True

    def put(self, card: ModelCard) -> None:
        """Write the card into the list."""
        with self._writing:
            self._cards[card.model] = card
            write_index(self.path, self.cards())

    def put_variant(self, model: str, variant: ModelVariant) -> None:
        """Write one variant into its model's card, as that is now. Raises UnknownModel."""
        self.put(with_variant(self.card(model), variant))

    def settle(self, card: ModelCard, staged: Path) -> None:
        """A new model, or new files of one there is: its card and all files of a folder beside it, into place."""
        before = self._cards.get(card.model)
        self.put(card)
        target = self.path / card.model
        try:
            if before is None:
                delete(target)
                staged.replace(target)
                return
            for file in sorted(staged.iterdir()):
                file.replace(target / file.name)
        except OSError as error:
            if before is None:
                self._forget(card.model)
            raise ModelStoreError(f"{card.model} cannot be put in its place: {error.strerror}.") from error

    def settle_variant(self, model: str, variant: ModelVariant, *, part: Path) -> None:
        """One file made beside its place: its card, then the file, into place."""
        self.put_variant(model, variant)
        part.replace(self.path / variant.path)

    def remove(self, model: str) -> None:
        """Forget a model and delete its files. Raises UnknownModel."""
        self.card(model)
        folder = self.path / model
        if folder.exists():
            gone = self.path / f"{model}{PART}"
            delete(gone)
            folder.replace(gone)
        self._forget(model)
        shutil.rmtree(self.path / f"{model}{PART}", ignore_errors=True)

    def remove_variant(self, model: str, quantization: str) -> None:
        """Forget one variant and delete its files. Raises UnknownModel, or ModelStoreError for the source."""
        card, variant = self.card(model), self.variant(model, quantization)
        if quantization == card.source_quantization:
            raise ModelStoreError(f"{quantization} is what {model} was added as: remove the whole model instead.")
        kept = tuple(v for v in card.variants if v.quantization != quantization)
        self.put(msgspec.structs.replace(card, variants=kept))
        for place in (*(file.path for file in variant.files), variant.path):
            delete(self.path / place)

    def free_name(self, wanted: str | None, *, title: str, sha256: str) -> str:
        """A name that no model has yet. Raises ModelStoreError when the wanted one is taken."""
        name = slug(wanted or title) or f"model-{sha256[:8]}"
        if name not in self._cards and not name.endswith(OURS):
            return name
        if wanted:
            why = "another model called" if name in self._cards else "something of the store's own called"
            raise ModelStoreError(f"There is {why} {name}; choose another name.")
        return f"{name[: MAX_NAME_CHARACTERS - 9]}-{sha256[:8]}"

    def _forget(self, model: str) -> None:
        with self._writing:
            self._cards.pop(model)
            write_index(self.path, self.cards())

    def _clear_strangers(self, card: ModelCard) -> None:
        """In a model's own folder, what its card does not name is left over from a killed run."""
        named = {self.path / file.path for variant in card.variants for file in variant.files}
        named |= {parent for path in named for parent in path.parents}
        for path in (self.path / card.model).glob("*"):
            if path not in named:
                delete(path)


def slug(title: str) -> str:
    """A name as the swarm spells it: lower case, digits, dot and hyphen."""
    return re.sub(r"[^a-z0-9.]+", "-", title.lower())[:MAX_NAME_CHARACTERS].strip("-.")
