"""How the owner names a model of the hub (OWNER/NAME, OWNER/NAME:TYPE, OWNER/NAME:FILE), and which files are meant.

Pure. Never guesses between several: it says what there is.
"""

from __future__ import annotations

import re

import msgspec

from core.model_download.messages import HubFile
from core.model_shards import shard_names
from core.model_trouble import HubTrouble

MAX_LISTED = 12
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_TYPE = re.compile(
    r"(?<![A-Za-z0-9])(?:I?Q[0-9](?:_[A-Z0-9]+)*|TQ[12]_0|BF16|F16|F32|MXFP4)(?![A-Za-z0-9])", re.IGNORECASE | re.ASCII
)
# Files that stand beside a model and are none.
_BESIDE = ("mmproj", "imatrix")


class HubModel(msgspec.Struct, frozen=True):
    """A repository, and what of it is meant: a file's name, a type such as Q8_0, or (empty) the only model there is."""

    repo: str
    wanted: str = ""


class Chosen(msgspec.Struct, frozen=True):
    """The files of one model, first shard first."""

    files: tuple[HubFile, ...]


def hub_model(text: str) -> HubModel:
    """What `models install` was given. Raises HubTrouble when it names nothing."""
    repo, _, wanted = text.strip().partition(":")
    if _REPO.fullmatch(repo) is None:
        raise HubTrouble(f"{text} names no model of a hub. Write OWNER/NAME, OWNER/NAME:Q8_0 or OWNER/NAME:FILE.gguf.")
    return HubModel(repo, wanted)


def choose(model: HubModel, files: tuple[HubFile, ...]) -> Chosen:
    """The one model that is meant. Raises HubTrouble, which says what there is."""
    by_name = {file.name: file for file in files if not any(word in file.name.lower() for word in _BESIDE)}
    models = sorted({_shards(name)[0] for name in by_name})
    if not models:
        raise HubTrouble(f"{model.repo} has no GGUF file, which is what can be installed.")
    found = [name for name in models if _is_meant(name, model.wanted)]
    if len(found) != 1:
        raise HubTrouble(_which(model, found or models, is_unknown=bool(model.wanted) and not found))
    names = _shards(found[0])
    if missing := [name for name in names if name not in by_name]:
        raise HubTrouble(f"{model.repo} lacks {', '.join(missing[:3])}, without which the model is not whole.")
    chosen = tuple(by_name[name] for name in names)
    if unproven := [file.name for file in chosen if not file.sha256]:
        raise HubTrouble(f"The hub tells no checksum of {unproven[0]}, so it could not be trusted and is not taken.")
    return Chosen(chosen)


def _shards(name: str) -> tuple[str, ...]:
    """Every name of its set, folders included."""
    folder, slash, last = name.rpartition("/")
    return tuple(f"{folder}{slash}{shard}" for shard in shard_names(last))


def _is_meant(name: str, wanted: str) -> bool:
    if not wanted:
        return True
    if wanted.lower().endswith(".gguf"):
        return any(shard == wanted or shard.rpartition("/")[2] == wanted for shard in _shards(name))
    return wanted.upper() == _type_of(name)


def _type_of(name: str) -> str:
    """The type in a file's name, the last one that it holds; empty when it tells none."""
    return next(reversed([found.upper() for found in _TYPE.findall(name)]), "")


def _which(model: HubModel, names: list[str], *, is_unknown: bool) -> str:
    types = [_type_of(name) for name in names]
    is_clear = all(types) and len(set(types)) == len(types)
    listed = ", ".join((types if is_clear else names)[:MAX_LISTED])
    example = types[0] if is_clear else names[0]
    start = f"{model.repo} has no {model.wanted}, but" if is_unknown else f"{model.repo} has several models:"
    return f"{start} {listed}. Say which, as {model.repo}:{example}."
