"""Fetch one file of a model from several sources at once: the schedule decides, the sink checks and writes.

Never keeps a piece that the sink has not checked. A source that breaks is tried again a few times; one that sends a
wrong piece, and all sources of a manifest that made a wrong file, are not.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Protocol

import msgspec
import trio

from core.job import PeerId
from core.piece_manifest import PieceManifest
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.manifest_book import ManifestBook
from p2p.model_link import ModelLink, Piece
from p2p.model_messages import MODEL_PROTOCOL, NotHere, OneFile
from p2p.model_schedule import PieceSchedule
from p2p.model_search import FoundSource
from p2p.protocol_error import RemoteProtocolError
from p2p.swarm_errors import PeerUnreachable

ATTEMPTS = 4
AGAIN_S = 1.0
LONGEST_AGAIN_S = 30.0
OPEN_S = 15.0
WATCH_S = 0.25
LOOK_EVERY_S = 10.0
SWITCH_S = 5.0
GIVE_UP_S = 30.0
LONGEST_PROMISE_S = 900.0
# One ask of each kind waits at most; the schedule asks for few pieces at once, so that it is never full.
MAX_ASKS = 64

log = logging.getLogger(__name__)

Find = Callable[[], Awaitable[Sequence[FoundSource]]]


class Opener(Protocol):
    """What a fetch needs of the swarm."""

    async def open(self, peer_id: PeerId, protocol: str, *, addresses: tuple[str, ...] = ()) -> ByteStream:
        """A stream to this peer. Raises PeerUnreachable."""


class Sink(Protocol):
    """Where pieces go. Every method blocks and may raise what stands between an owner and a file."""

    def adopt(self, manifest: PieceManifest) -> frozenset[int]:
        """Go on by this manifest; the pieces that are here."""

    def put(self, index: int, parts: Sequence[memoryview]) -> bool:
        """Check and write one piece; False when it is wrong."""

    def finish(self) -> bool:
        """Whether the whole file is what it should be; then it is in its place."""

    def wrong_pieces(self) -> frozenset[int]:
        """Which pieces are not on disk as the manifest says."""


class NoSources(Exception):
    """Nobody is left who gives the file; the message is one sentence for people."""


class Fetched(msgspec.Struct, frozen=True):
    """How far it is. pieces_of: how many good ones each source sent; wrong: who sent wrong ones."""

    done_bytes: int
    file_bytes: int
    pieces_of: dict[PeerId, int]
    wrong: frozenset[PeerId]


class FileFetch:
    """One file. Run it once."""

    def __init__(self, swarm: Opener, file: OneFile, *, sink: Sink, on_progress: Callable[[Fetched], None]) -> None:
        self._swarm = swarm
        self._file = file
        self._sink = sink
        self._on_progress = on_progress
        self._book = ManifestBook()
        self._schedule = PieceSchedule(0)
        self._manifest: PieceManifest | None = None
        self._adopting = trio.Lock()
        self._changed = trio.Event()
        self._completed = trio.Event()
        self._visiting: set[PeerId] = set()
        self._waiting: set[PeerId] = set()
        self._asks: dict[PeerId, trio.MemorySendChannel[tuple[int, ...]]] = {}
        self._scopes: dict[PeerId, trio.CancelScope] = {}
        self._wrong: set[PeerId] = set()
        self._pieces_of: dict[PeerId, int] = {}
        self._kept_at = self._began = inf

    async def run(self, find: Find) -> Fetched:
        """Until the file is here, whole. Raises NoSources, and what the sink raises, in ExceptionGroups."""
        self._kept_at = self._began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_finding, find, nursery)
            nursery.start_soon(self._watch)
            await self._completed.wait()
            nursery.cancel_scope.cancel()
        return self._progress()

    async def _keep_finding(self, find: Find, nursery: trio.Nursery) -> None:
        while True:
            for source in await find():
                if source.peer not in self._visiting and source.peer not in self._wrong:
                    self._visiting.add(source.peer)
                    nursery.start_soon(self._visit, source)
            await trio.sleep(LOOK_EVERY_S)

    async def _watch(self) -> None:
        """Take pieces from those who stopped; give up when nothing has come for long and nobody is left."""
        while True:
            await trio.sleep(WATCH_S)
            now = trio.current_time()
            for name in self._schedule.silent(now):
                log.info("%s has stopped sending a model's pieces", name)
                self._scopes[PeerId(name)].cancel()
            self._ask_on()
            if self._schedule.sources or now - self._kept_at < SWITCH_S:
                continue
            if self._waiting and not self._adopting.locked():
                async with self._adopting:
                    await self._adopt(frozenset(self._waiting))
            elif now - self._kept_at > GIVE_UP_S:
                raise NoSources("No peer is left that gives this file. What was fetched is kept for the next time.")

    async def _visit(self, source: FoundSource) -> None:
        """Use one source until the file is here, it is wrong, or it has failed too often."""
        try:
            for attempt in range(ATTEMPTS):
                before = self._pieces_of.get(source.peer, 0)
                again_s = await self._use(source)
                while again_s is None:
                    await self._wait_for_change(source.peer)
                    again_s = await self._use(source)
                if source.peer in self._wrong:
                    return
                if self._pieces_of.get(source.peer, 0) == before and attempt == ATTEMPTS - 1:
                    return
                await trio.sleep(max(AGAIN_S * 2**attempt, min(again_s or 0.0, LONGEST_AGAIN_S)))
        finally:
            self._visiting.discard(source.peer)

    async def _wait_for_change(self, peer: PeerId) -> None:
        """Until we go by another manifest than the one that is not this source's."""
        self._waiting.add(peer)
        while not self._book.is_chosen(peer) and not self._book.is_condemned(peer):
            await self._changed.wait()
        self._waiting.discard(peer)

    async def _use(self, source: FoundSource) -> float | None:
        """One stream's worth. None: it goes by another manifest than ours; else seconds until it may be tried again."""
        peer = source.peer
        try:
            with trio.fail_after(OPEN_S):
                stream = await self._swarm.open(peer, MODEL_PROTOCOL, addresses=source.addresses)
            try:
                return await self._converse(ModelLink(stream), peer)
            except RemoteProtocolError:
                stream.blame()
                raise
            finally:
                self._schedule.leave(peer)
                await stream.reset()
        except (PeerUnreachable, StreamBroken, trio.TooSlowError) as error:
            log.debug("a source broke: %s: %s", peer, error)
        except RemoteProtocolError as error:
            log.info("%s is no source any more: %s", peer, error)
            self._wrong.add(peer)
            self._schedule.condemn(peer)
        return AGAIN_S

    async def _converse(self, link: ModelLink, peer: PeerId) -> float | None:
        manifest = await link.manifest(self._file)
        if isinstance(manifest, NotHere):
            self._note_promise(manifest)
            return manifest.retry_after_s or LONGEST_AGAIN_S
        self._book.add(peer, manifest)
        if self._book.is_condemned(peer):
            raise RemoteProtocolError("a manifest that made a wrong file")
        async with self._adopting:
            if self._manifest is None:
                await self._adopt()
        if not self._book.is_chosen(peer):
            return None
        scope = self._scopes[peer] = trio.CancelScope()
        with scope:
            await self._exchange(link, peer)
        return AGAIN_S

    def _note_promise(self, answer: NotHere) -> None:
        """A source that reads its file for the first time, or is busy, is worth waiting for, but not for ever."""
        now = trio.current_time()
        if answer.retry_after_s and now - self._began < LONGEST_PROMISE_S:
            self._kept_at = now + min(answer.retry_after_s, LONGEST_AGAIN_S)

    async def _adopt(self, among: frozenset[PeerId] | None = None) -> None:
        """Go by the manifest that most sources (of these) gave."""
        manifest = self._book.choose(among)
        if manifest is None:
            return
        done = await trio.to_thread.run_sync(self._sink.adopt, manifest)
        self._manifest = manifest
        self._schedule = PieceSchedule(manifest.pieces, done=done)
        self._changed.set()
        self._changed = trio.Event()
        self._tell()
        if self._schedule.is_done:
            await self._finish()

    async def _exchange(self, link: ModelLink, peer: PeerId) -> None:
        """Ask and take, until cancelled or the stream breaks."""
        send, receive = trio.open_memory_channel[tuple[int, ...]](MAX_ASKS)
        self._asks[peer] = send
        self._schedule.join(peer, now=trio.current_time())
        fault: StreamBroken | RemoteProtocolError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_asks, link, receive)
            try:
                self._ask_on()
                while isinstance(piece := await link.next_piece(partial(self._heard, peer)), Piece):
                    await self._take(piece, peer)
            except (StreamBroken, RemoteProtocolError) as error:
                fault = error
            nursery.cancel_scope.cancel()
        if fault is not None:
            raise fault

    async def _send_asks(self, link: ModelLink, asks: trio.MemoryReceiveChannel[tuple[int, ...]]) -> None:
        """A broken stream is the reader's to tell."""
        with suppress(StreamBroken):
            async for pieces in asks:
                await link.ask(self._file.sha256, pieces)

    async def _take(self, piece: Piece, peer: PeerId) -> None:
        schedule, manifest = self._schedule, self._manifest
        if manifest is None or not schedule.is_wanted(peer, piece.index):
            raise RemoteProtocolError("a piece that was not asked for")
        if piece.length != manifest.length_of(piece.index):
            raise RemoteProtocolError("a piece of another length")
        schedule.arrived(peer, piece.index, now=trio.current_time())
        self._ask_on()
        if not schedule.is_here(piece.index):
            if not await trio.to_thread.run_sync(self._sink.put, piece.index, piece.parts):
                raise RemoteProtocolError("a piece with another hash than its manifest says")
            is_first = not schedule.is_here(piece.index)
            self._pieces_of[peer] = self._pieces_of.get(peer, 0) + is_first
            self._kept_at = trio.current_time()
        schedule.keep(peer, piece.index)
        self._tell()
        if schedule.is_done and schedule is self._schedule:
            async with self._adopting:
                await self._finish()
        self._ask_on()

    async def _finish(self) -> None:
        """Every piece is here: is it the file?"""
        if self._completed.is_set() or not self._schedule.is_done:
            return
        if await trio.to_thread.run_sync(self._sink.finish):
            self._completed.set()
            return
        wrong = await trio.to_thread.run_sync(self._sink.wrong_pieces)
        if wrong:
            log.warning("%d pieces were not on disk as they had been; they are fetched again", len(wrong))
            self._schedule.lose(wrong)
            return
        condemned = self._book.condemn_chosen()
        log.warning("a manifest made a wrong file; its %d sources are given up", len(condemned))
        self._wrong |= condemned
        self._manifest, self._schedule = None, PieceSchedule(0)
        await self._adopt()
        for peer in condemned & self._scopes.keys():
            self._scopes[peer].cancel()

    def _ask_on(self) -> None:
        """Ask for what may be asked for now."""
        for ask in self._schedule.asks(trio.current_time()):
            self._asks[PeerId(ask.source)].send_nowait(ask.pieces)

    def _heard(self, peer: PeerId) -> None:
        self._schedule.heard(peer, now=trio.current_time())

    def _tell(self) -> None:
        self._on_progress(self._progress())

    def _progress(self) -> Fetched:
        done = 0
        if self._manifest is not None:
            done = min(self._file.file_bytes, self._schedule.done_count * self._manifest.piece_bytes)
        return Fetched(done, self._file.file_bytes, dict(self._pieces_of), frozenset(self._wrong))
