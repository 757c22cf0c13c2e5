"""The list of what a store holds, as one JSON file that is replaced whole.

Never looks at the model files themselves.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from core.model_card import ModelCard
from core.model_trouble import ModelStoreError

INDEX = "index.json"
PART = ".part"


class _Index(msgspec.Struct, frozen=True):
    version: int = 1
    models: tuple[ModelCard, ...] = ()


def read_index(folder: Path) -> tuple[ModelCard, ...]:
    """The cards, oldest first; none when there is no list. Raises ModelStoreError."""
    try:
        return msgspec.json.decode((folder / INDEX).read_bytes(), type=_Index).models
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.MsgspecError) as error:
        raise ModelStoreError(f"The list of models in {folder} cannot be read: {error}.") from error


def write_index(folder: Path, cards: tuple[ModelCard, ...]) -> None:
    """Replace the list; durable when this returns."""
    part = folder / f"{INDEX}{PART}"
    with part.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(_Index(models=cards)), indent=1))
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / INDEX)
