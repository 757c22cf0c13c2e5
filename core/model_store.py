"""The door to a home's models: takes them in from a file or the hub, quantizes, checks, and makes room for them.

Never loads a model in this process, and never has a file under its final name that is not whole. One change at a time;
a download only holds up another download.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import msgspec
import trio

from core.model_card import ModelCard, ModelFile, ModelVariant, damage_text, with_variant
from core.model_download.downloads import Downloads
from core.model_download.link import open_hub
from core.model_download.source import HubModel, choose
from core.model_files import (
    Tell,
    copy_or_link,
    delete,
    hash_file,
    joint_sha256,
    require_space,
    shards_beside,
    share,
    span,
    sync,
)
from core.model_folder import ModelFolder
from core.model_index import PART
from core.model_making import expected_bytes, inspect, quantize
from core.model_shards import shard_name
from core.model_shelf import GIGABYTE, Dropped, Held, ShelfRules, to_drop
from core.model_trouble import ModelStoreError, NoSpace, UnknownModel

HUB = "https://huggingface.co"


class _Incoming(msgspec.Struct, frozen=True):
    """Files that are to become a model. hashes: of each, when they are known. is_ours: they may be moved away."""

    paths: tuple[Path, ...]
    name: str | None = None
    hashes: tuple[str, ...] = ()
    origin: str = ""
    is_ours: bool = False


class ModelStore:
    """Read it in as many processes as you like; change it in one."""

    def __init__(
        self,
        folder: Path,
        *,
        rules: ShelfRules | None = None,
        held: Callable[[], Held] = frozenset,
        endpoint: str = HUB,
    ) -> None:
        self._folder = ModelFolder(folder)
        self._downloads = Downloads(folder)
        self._rules = rules or ShelfRules()
        self._held = held
        self._endpoint = endpoint
        self._changing = trio.Lock()
        self._downloading = trio.Lock()

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return self._folder.path

    def cards(self) -> tuple[ModelCard, ...]:
        """The models there are, oldest first."""
        return self._folder.cards()

    def path_of(self, model: str, quantization: str) -> Path:
        """Where this variant's (first) file is. Raises UnknownModel."""
        return self._folder.path / self._folder.variant(model, quantization).path

    def unfinished_bytes(self) -> int:
        """What downloads that were cut short take; blocking."""
        return self._downloads.unfinished_bytes()

    def clean(self) -> None:
        """Clear away what a killed run left; blocking. Every change does it first."""
        self._folder.clean()
        self._downloads.clean(time.time())

    async def add(self, path: Path, *, name: str | None = None, on_progress: Tell | None = None) -> ModelCard:
        """Take in a GGUF, with all its shards (copied; hard-linked when it is large and that works). The same file
        twice adds nothing, but makes a damaged one whole.

        Raises BadModelFile, NoSpace or ModelStoreError.
        """
        tell = on_progress or _silent
        paths = await trio.to_thread.run_sync(shards_beside, path)
        async with self._changing:
            return await self._take(_Incoming(paths, name), tell)

    async def install(
        self, wanted: HubModel, *, name: str | None = None, on_progress: Tell | None = None
    ) -> ModelCard:
        """Fetch a model from the hub and take it in. Cut short, it goes on from there the next time.

        Raises HubTrouble, BadModelFile, NoSpace or ModelStoreError.
        """
        tell = on_progress or _silent
        async with self._downloading, AsyncExitStack() as stack:
            tell(0.0, f"Asking for {wanted.repo}")
            hub = await stack.enter_async_context(open_hub(self._endpoint))
            listing = await hub.list_files(wanted.repo)
            chosen = choose(wanted, listing.files)
            known = self._known(joint_sha256([file.sha256 for file in chosen.files]))
            if known is not None:
                return known
            self._drops(sum(file.file_bytes for file in chosen.files))
            paths = await self._downloads.fetch(hub, listing, files=chosen.files, tell=span(tell, 0.0, end=0.95))
            hashes = tuple(file.sha256 for file in chosen.files)
            incoming = _Incoming(paths, name, hashes, f"{wanted.repo}:{chosen.files[0].name}", is_ours=True)
            async with self._changing:
                card = await self._take(incoming, span(tell, 0.95, end=1.0))
            await trio.to_thread.run_sync(delete, paths[0].parent)
            return card

    async def ensure_variant(self, model: str, quantization: str, *, on_progress: Tell | None = None) -> ModelVariant:
        """Make this quantization from the source unless it is there and whole. Counts as its use. Cancelling it, or a
        crash, leaves no half file.

        Raises UnknownModel, NoSpace or ModelStoreError.
        """
        tell = on_progress or _silent
        async with self._changing:
            await trio.to_thread.run_sync(self._folder.clean)
            card = self._folder.card(model)
            known = card.variant(quantization)
            if known is not None and not known.damaged and self._folder.is_there(known):
                used = msgspec.structs.replace(known, used_at=time.time())
                await trio.to_thread.run_sync(self._folder.put_variant, model, used)
                return used
            source = self._whole_source(card, quantization)
            needed = expected_bytes(source.file_bytes, quantization, source=source.quantization)
            await self._make_room(needed, tell, keep=model)
            await trio.to_thread.run_sync(require_space, self._folder.path, needed)
            made = await self._make(card, quantization, tell=tell)
            tell(1.0, "Ready")
            return made

    async def verify(self, model: str, quantization: str, *, on_progress: Tell | None = None) -> ModelVariant:
        """Read every file of this variant again: the answer names in `damaged` those that are not what they were.
        Raises UnknownModel."""
        tell = on_progress or _silent
        variant = self._folder.variant(model, quantization)
        damaged = []
        for index, file in enumerate(variant.files):
            if not await self._is_whole(file, share(tell, index, count=len(variant.files))):
                damaged.append(Path(file.path).name)
        async with self._changing:
            now = self._folder.variant(model, quantization)
            checked = msgspec.structs.replace(now, checked_at=time.time(), damaged=tuple(damaged))
            await trio.to_thread.run_sync(self._folder.put_variant, model, checked)
        return checked

    async def remove(self, model: str, quantization: str = "") -> None:
        """Forget a model, or one variant of it, and delete its files. Raises UnknownModel or ModelStoreError."""
        async with self._changing:
            if quantization:
                await trio.to_thread.run_sync(self._folder.remove_variant, model, quantization)
            else:
                await trio.to_thread.run_sync(self._folder.remove, model)

    def _known(self, sha256: str) -> ModelCard | None:
        """The model that was made from these bytes, unless its own are damaged or gone."""
        card = next((card for card in self.cards() if card.source_sha256 == sha256), None)
        if card is None or card.source is None or card.source.damaged or not self._folder.is_there(card.source):
            return None
        return card

    async def _take(self, incoming: _Incoming, tell: Tell) -> ModelCard:
        """Files that were looked at from outside become a model of the store."""
        await trio.to_thread.run_sync(self._folder.clean)
        tell(0.0, "Opening the file")
        read = await inspect(incoming.paths[0])
        hashes = incoming.hashes or await self._hashes(incoming.paths, span(tell, 0.0, end=0.5))
        sha256 = joint_sha256(hashes)
        if (known := self._known(sha256)) is not None:
            return known
        same = next((card for card in self.cards() if card.source_sha256 == sha256), None)
        name = same.model if same else self._folder.free_name(incoming.name, title=read.title, sha256=sha256)
        variant = _variant(incoming.paths, hashes, folder=name, quantization=read.source_quantization)
        if same is None:
            await self._make_room(variant.file_bytes, tell, keep=name)
        card = same or msgspec.structs.replace(read, model=name, source_sha256=sha256)
        card = msgspec.structs.replace(with_variant(card, variant), origin=incoming.origin or card.origin)
        await self._settle(card, incoming, tell=span(tell, 0.5, end=1.0))
        tell(1.0, "Added")
        return card

    async def _settle(self, card: ModelCard, incoming: _Incoming, *, tell: Tell) -> None:
        """Copy or move the files beside their place, then into it."""
        staged = self._folder.path / f"{card.model}{PART}"
        assert card.source is not None
        try:
            await trio.to_thread.run_sync(partial(staged.mkdir, parents=True, exist_ok=True))
            for index, (path, file) in enumerate(zip(incoming.paths, card.source.files, strict=True)):
                target = staged / Path(file.path).name
                told = share(tell, index, count=len(incoming.paths))
                if incoming.is_ours:
                    await trio.to_thread.run_sync(path.replace, target)
                else:
                    copy = partial(copy_or_link, path, target, sha256=file.sha256, tell=told)
                    await trio.to_thread.run_sync(copy)
                await trio.to_thread.run_sync(sync, target)
            await trio.to_thread.run_sync(self._folder.settle, card, staged)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(delete, staged)

    async def _hashes(self, paths: tuple[Path, ...], tell: Tell) -> tuple[str, ...]:
        return tuple(
            [
                await trio.to_thread.run_sync(hash_file, path, share(tell, index, count=len(paths)))
                for index, path in enumerate(paths)
            ]
        )

    async def _make(self, card: ModelCard, quantization: str, *, tell: Tell) -> ModelVariant:
        """Quantize beside the place, hash, put in place."""
        relative = f"{card.model}/{quantization}.gguf"
        part = self._folder.path / f"{relative}{PART}"
        source = self.path_of(card.model, card.source_quantization)
        try:
            await quantize(source, part, quantization=quantization, tell=span(tell, 0.0, end=0.9))
            sha256 = await trio.to_thread.run_sync(hash_file, part, span(tell, 0.9, end=1.0))
            await trio.to_thread.run_sync(sync, part)
            size = part.stat().st_size
            variant = ModelVariant(quantization, size, sha256, relative, used_at=time.time())
            await trio.to_thread.run_sync(partial(self._folder.settle_variant, card.model, variant, part=part))
            return variant
        finally:
            part.unlink(missing_ok=True)

    async def _is_whole(self, file: ModelFile, tell: Tell) -> bool:
        path = self._folder.path / file.path
        if not path.is_file() or path.stat().st_size != file.file_bytes:
            return False
        return await trio.to_thread.run_sync(hash_file, path, tell) == file.sha256

    def _whole_source(self, card: ModelCard, quantization: str) -> ModelVariant:
        """What the variant may be made from. Raises ModelStoreError when nothing whole is there."""
        source = card.source
        if source is None or not self._folder.is_there(source):
            raise UnknownModel(f"The file that {card.model} was added as is gone.")
        if source.damaged:
            raise ModelStoreError(damage_text(card, source))
        if quantization == card.source_quantization:
            raise UnknownModel(f"{card.model} is not on disk as {quantization}.")
        return source

    def require_room(self, needed_bytes: int) -> None:
        """Raises NoSpace when so much more may not come in under the owner's cap."""
        self._drops(needed_bytes)

    def _drops(self, needed_bytes: int, *, keep: str = "") -> tuple[Dropped, ...]:
        """What must go for so much more to come in. Raises NoSpace when that is too little."""
        drops = to_drop(self.cards(), needed_bytes, rules=self._rules, held=self._held(), keep=keep)
        if drops is None:
            cap = (self._rules.cap_bytes or 0) / GIGABYTE
            raise NoSpace(
                f"{needed_bytes / GIGABYTE:.2f} GB more would take the models over their cap of {cap:g} GB, and too "
                "little of them may go. Remove one, or raise storage_cap_gb in the settings."
            )
        return drops

    async def _make_room(self, needed_bytes: int, tell: Tell, *, keep: str) -> None:
        """Let go what the owner's cap asks for. Raises NoSpace."""
        for drop in self._drops(needed_bytes, keep=keep):
            tell(0.0, f"Making room: {drop.model} {drop.quantization}".rstrip())
            if drop.quantization:
                await trio.to_thread.run_sync(self._folder.remove_variant, drop.model, drop.quantization)
            else:
                await trio.to_thread.run_sync(self._folder.remove, drop.model)


def _variant(paths: tuple[Path, ...], hashes: tuple[str, ...], *, folder: str, quantization: str) -> ModelVariant:
    """The variant that these files make in a model's folder."""
    files = tuple(
        ModelFile(shard_name(f"{folder}/{quantization}", index, count=len(paths)), path.stat().st_size, sha256)
        for index, (path, sha256) in enumerate(zip(paths, hashes, strict=True))
    )
    shards = files if len(files) > 1 else ()
    size = sum(file.file_bytes for file in files)
    return ModelVariant(quantization, size, joint_sha256(hashes), files[0].path, shards, used_at=time.time())


def _silent(_fraction: float, _text: str) -> None:
    return
