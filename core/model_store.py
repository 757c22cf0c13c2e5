"""Owns the model files of one home: takes them in, checks them, quantizes them, removes them, and keeps their cards.

Never loads a model in this process: files are opened and quantized in throw-away children. A file under its final name
is whole: everything is written to a .part first.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import trio

from core.metamodel.quantizations import quantization as quantization_row
from core.model_card import MAX_NAME_CHARACTERS, ModelCard, ModelVariant
from core.probe import serving_threads
from core.worker.messages import Fault, FaultKind, Inspect, Inspected, Quantize, Quantized
from core.worker.process import run_once

INDEX = "index.json"
PART = ".part"
MAGIC = b"GGUF"
PIECE_BYTES = 8 << 20
INSPECT_S = 120.0
LINK_FROM_BYTES = 1 << 30
QUANTIZE_START_S = 600.0
QUANTIZE_BYTES_PER_S = 500_000
SPACE_MARGIN = 1.1
SPACE_SPARE_BYTES = 64 << 20

Tell = Callable[[float, str], None]


class ModelStoreError(Exception):
    """The store could not do it; the message is one sentence for the owner."""


class BadModelFile(ModelStoreError):
    """The file is no whole GGUF model."""


class NoSpace(ModelStoreError):
    """The disk has too little free space; nothing was changed."""


class UnknownModel(ModelStoreError):
    """The store has no such model, or not in this quantization."""


class _Index(msgspec.Struct, frozen=True):
    version: int = 1
    models: tuple[ModelCard, ...] = ()


class ModelStore:
    """One folder of models. Open it in as many processes as you like; change it in one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changing = trio.Lock()
        self._writing = threading.Lock()
        self._is_clean = False
        self._cards = {card.model: card for card in _read_index(folder)}

    def cards(self) -> tuple[ModelCard, ...]:
        """The models there are, oldest first."""
        return tuple(self._cards.values())

    def path_of(self, model: str, quantization: str) -> Path:
        """Where this variant's file is. Raises UnknownModel."""
        variant = self._card(model).variant(quantization)
        if variant is None:
            raise UnknownModel(f"{model} is not on disk as {quantization}.")
        return self._folder / variant.path

    async def add(self, path: Path, *, name: str | None = None, on_progress: Tell | None = None) -> ModelCard:
        """Take in a GGUF (copied; hard-linked when it is large and that works). The same file twice adds nothing.

        Raises BadModelFile, NoSpace or ModelStoreError.
        """
        tell = on_progress or _silent
        async with self._changing:
            await trio.to_thread.run_sync(self._clean)
            await trio.to_thread.run_sync(_check_magic, path)
            tell(0.0, "Opening the file")
            read = await _inspect(path)
            sha256 = await _hash(path, tell)
            known = next((card for card in self._cards.values() if card.source_sha256 == sha256), None)
            if known is not None:
                return known
            model = self._free_name(name, title=read.title, sha256=sha256)
            relative = f"{model}/{read.source_quantization}.gguf"
            await trio.to_thread.run_sync(partial(_take_in, path, self._folder / relative, tell=tell))
            variant = ModelVariant(read.source_quantization, path.stat().st_size, sha256, relative)
            card = msgspec.structs.replace(read, model=model, source_sha256=sha256, variants=(variant,))
            await trio.to_thread.run_sync(self._put, card)
            tell(1.0, "Added")
            return card

    async def ensure_variant(self, model: str, quantization: str, *, on_progress: Tell | None = None) -> ModelVariant:
        """Make this quantization from the source unless it is there. Cancelling it, or a crash, leaves no half file.

        Raises UnknownModel, NoSpace or ModelStoreError.
        """
        tell = on_progress or _silent
        async with self._changing:
            await trio.to_thread.run_sync(self._clean)
            card = self._card(model)
            known = card.variant(quantization)
            if known is not None and (self._folder / known.path).is_file():
                return known
            source = self.path_of(model, card.source_quantization)
            self._check_space(card, quantization, source=source)
            relative = f"{model}/{quantization}.gguf"
            sha256 = await _quantize(source, self._folder / relative, quantization=quantization, tell=tell)
            variant = ModelVariant(quantization, (self._folder / relative).stat().st_size, sha256, relative)
            others = tuple(v for v in card.variants if v.quantization != quantization)
            await trio.to_thread.run_sync(self._put, msgspec.structs.replace(card, variants=(*others, variant)))
            tell(1.0, "Ready")
            return variant

    async def verify(self, model: str, quantization: str, *, on_progress: Tell | None = None) -> bool:
        """True when the file on disk still has the hash that it had. Raises UnknownModel."""
        path = self.path_of(model, quantization)
        variant = self._card(model).variant(quantization)
        if variant is None or not path.is_file() or path.stat().st_size != variant.file_bytes:
            return False
        return await _hash(path, on_progress or _silent) == variant.sha256

    def remove(self, model: str) -> None:
        """Forget a model and delete its files; blocking, call it in a thread. Raises UnknownModel."""
        self._card(model)
        with self._writing:
            self._cards.pop(model)
            _write_index(self._folder, self.cards())
        shutil.rmtree(self._folder / model, ignore_errors=True)

    def _card(self, model: str) -> ModelCard:
        if model not in self._cards:
            raise UnknownModel(f"There is no model {model} here.")
        return self._cards[model]

    def _put(self, card: ModelCard) -> None:
        with self._writing:
            self._cards[card.model] = card
            _write_index(self._folder, self.cards())

    def _clean(self) -> None:
        """Before the first change: delete what a killed run left half written, and forget files that are gone."""
        if self._is_clean:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for leftover in self._folder.rglob(f"*{PART}"):
            leftover.unlink(missing_ok=True)
        for card in self.cards():
            there = tuple(v for v in card.variants if (self._folder / v.path).is_file())
            if card.source_quantization not in {v.quantization for v in there}:
                self.remove(card.model)
            elif there != card.variants:
                self._put(msgspec.structs.replace(card, variants=there))
        self._is_clean = True

    def _free_name(self, wanted: str | None, *, title: str, sha256: str) -> str:
        name = slug(wanted or title) or f"model-{sha256[:8]}"
        if name not in self._cards:
            return name
        if wanted is not None:
            raise ModelStoreError(f"There is another model called {name}; remove it first, or choose another name.")
        return f"{name[: MAX_NAME_CHARACTERS - 9]}-{sha256[:8]}"

    def _check_space(self, card: ModelCard, quantization: str, *, source: Path) -> None:
        target, origin = quantization_row(quantization), quantization_row(card.source_quantization)
        if target is None:
            raise ModelStoreError(f"There is no quantization {quantization}.")
        share = 1.0 if origin is None else target.bits / origin.bits
        _require_space(self._folder, int(source.stat().st_size * share * SPACE_MARGIN))


def slug(title: str) -> str:
    """A name as the swarm spells it: lower case, digits, dot and hyphen."""
    return re.sub(r"[^a-z0-9.]+", "-", title.lower())[:MAX_NAME_CHARACTERS].strip("-.")


def _read_index(folder: Path) -> tuple[ModelCard, ...]:
    try:
        return msgspec.json.decode((folder / INDEX).read_bytes(), type=_Index).models
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.MsgspecError) as error:
        raise ModelStoreError(f"The list of models in {folder} cannot be read: {error}.") from error


def _write_index(folder: Path, cards: tuple[ModelCard, ...]) -> None:
    part = folder / f"{INDEX}{PART}"
    with part.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(_Index(models=cards)), indent=1))
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / INDEX)


def _check_magic(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except OSError as error:
        raise BadModelFile(f"{path.name} cannot be read: {error.strerror}.") from error
    if magic != MAGIC:
        raise BadModelFile(f"{path.name} is not a GGUF model file.")


async def _inspect(path: Path) -> ModelCard:
    report = await run_once(Inspect(str(path)), deadline_s=INSPECT_S)
    match report:
        case Inspected(card=card):
            return card
        case Fault(kind=FaultKind.BAD_FILE, message=message):
            reason = message.rpartition("cannot be opened: ")[2]
            raise BadModelFile(f"{path.name} is damaged, incomplete or no language model: {reason}")
        case Fault(message=message):
            raise BadModelFile(f"{path.name} cannot be opened safely: {message}")
        case _:
            raise ModelStoreError(f"{path.name} was answered by {type(report).__name__}.")


async def _quantize(source: Path, target: Path, *, quantization: str, tell: Tell) -> str:
    """Quantize to a .part and put it in place; its sha256."""
    part = target.with_name(target.name + PART)
    threads = serving_threads(os.cpu_count() or 1)
    command = Quantize(str(source), str(part), quantization, threads)
    deadline_s = QUANTIZE_START_S + source.stat().st_size / QUANTIZE_BYTES_PER_S

    def tell_share(fraction: float, text: str) -> None:
        tell(0.9 * fraction, f"Quantizing {text}")

    try:
        report = await run_once(command, deadline_s=deadline_s, on_progress=tell_share)
        match report:
            case Quantized():
                sha256 = await _hash(part, lambda fraction, text: tell(0.9 + 0.1 * fraction, text))
                await trio.to_thread.run_sync(_put_in_place, part, target)
                return sha256
            case Fault(kind=FaultKind.NO_SPACE, message=message):
                raise NoSpace(message)
            case Fault(message=message):
                raise ModelStoreError(message)
            case _:
                raise ModelStoreError(f"Quantizing was answered by {type(report).__name__}.")
    finally:
        part.unlink(missing_ok=True)


async def _hash(path: Path, tell: Tell) -> str:
    return await trio.to_thread.run_sync(_hash_in_thread, path, tell)


def _hash_in_thread(path: Path, tell: Tell) -> str:
    digest = hashlib.sha256()
    total = max(1, path.stat().st_size)
    done = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            trio.from_thread.check_cancelled()
            digest.update(piece)
            done += len(piece)
            trio.from_thread.run_sync(tell, done / total, "Checking the file")
    return digest.hexdigest()


def _take_in(source: Path, target: Path, *, tell: Tell) -> None:
    """Copy a file into the store; a large one is linked where that works."""
    part = target.with_name(target.name + PART)
    target.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    try:
        if not _link(source, part):
            _require_space(target.parent, source.stat().st_size)
            _copy(source, part, tell=tell)
        _put_in_place(part, target)
    except OSError as error:
        raise ModelStoreError(f"{source.name} cannot be copied into the store: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)


def _link(source: Path, part: Path) -> bool:
    """A link saves a large file's space and time; a small one is copied, so that nobody's later edit reaches ours."""
    if source.stat().st_size < LINK_FROM_BYTES:
        return False
    try:
        os.link(source.resolve(), part)
    except OSError:
        return False
    return True


def _copy(source: Path, part: Path, *, tell: Tell) -> None:
    total = max(1, source.stat().st_size)
    done = 0
    with source.open("rb") as reader, part.open("wb") as writer:
        while piece := reader.read(PIECE_BYTES):
            trio.from_thread.check_cancelled()
            writer.write(piece)
            done += len(piece)
            trio.from_thread.run_sync(tell, done / total, "Copying")


def _put_in_place(part: Path, target: Path) -> None:
    """Durable, then visible, in one rename."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)


def _require_space(folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + SPACE_SPARE_BYTES:
        gigabytes = f"{needed_bytes / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free"
        raise NoSpace(f"There is too little space in {folder}: {gigabytes}. Free some and try again.")


def _silent(_fraction: float, _text: str) -> None:
    return
