"""The one way that anything happens: facts durable, then applied, then told to whoever watches.

Never waits for a watcher: one that does not keep up is dropped and must take a new snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import get_args

import msgspec
import trio

from core.events import Event, Fact, Notice, TroubleFound
from core.node_state import NodeState
from core.state import apply
from core.store import SNAPSHOT_EVERY, Store, StoreError

WATCHER_BACKLOG = 2_000
DISK = "disk"
FACT_TYPES = get_args(Fact)


class Numbered(msgspec.Struct, frozen=True):
    """An event and its place in this engine's life; numbers are consecutive."""

    sequence: int
    event: Event


class Watcher:
    """One subscriber: the state when it came, and every event since."""

    def __init__(self, sequence: int, state: NodeState, *, events: trio.MemoryReceiveChannel[Numbered]) -> None:
        self.sequence = sequence
        self.state = state
        self.events = events


class Journal:
    """State and its history. `state` is always the fold of everything recorded."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = trio.Lock()
        self._sequence = 0
        self._fact_sequence, state = store.snapshot()
        for number, fact in store.facts(after=self._fact_sequence):
            state = apply(state, fact)
            self._fact_sequence = number
        self._snapshot_sequence = self._fact_sequence
        self._state = state
        self._watchers: set[trio.MemorySendChannel[Numbered]] = set()

    @property
    def state(self) -> NodeState:
        """What is true now."""
        return self._state

    async def record(self, *events: Event) -> None:
        """Facts are on disk when this returns. Raises StoreError, and then nothing happened."""
        facts = tuple(event for event in events if isinstance(event, FACT_TYPES))
        async with self._lock:
            if facts:
                await self._write(facts)
                self._fact_sequence += len(facts)
            self._tell(events)
            if self._fact_sequence - self._snapshot_sequence >= SNAPSHOT_EVERY:
                await self._save_snapshot()

    async def _write(self, facts: tuple[Fact, ...]) -> None:
        """On disk, or raise; either way the owner is told when the disk begins or ceases to be in the way."""
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._store.append, facts)
        except StoreError as error:
            self._tell((TroubleFound(facts[0].at, DISK, str(error)),))
            raise
        if DISK in self._state.trouble:
            self._tell((TroubleFound(facts[0].at, DISK, ""),))

    async def _save_snapshot(self) -> None:
        """A snapshot only saves time: without room for it the facts are still there."""
        with trio.CancelScope(shield=True), suppress(StoreError):
            await trio.to_thread.run_sync(self._store.save_snapshot, self._fact_sequence, self._state)
        self._snapshot_sequence = self._fact_sequence

    def announce(self, *notices: Notice) -> None:
        """Tell what need not survive; never blocks."""
        self._tell(notices)

    @contextmanager
    def watch(self) -> Iterator[Watcher]:
        """Subscribe for the length of a with block. Full backlog: the events end, and the watcher starts anew."""
        send, receive = trio.open_memory_channel[Numbered](WATCHER_BACKLOG)
        self._watchers.add(send)
        try:
            yield Watcher(self._sequence, self._state, events=receive)
        finally:
            self._watchers.discard(send)
            send.close()
            receive.close()

    def _tell(self, events: tuple[Event, ...]) -> None:
        for event in events:
            self._state = apply(self._state, event)
            self._sequence += 1
            numbered = Numbered(self._sequence, event)
            for watcher in tuple(self._watchers):
                self._send(watcher, numbered)

    def _send(self, watcher: trio.MemorySendChannel[Numbered], numbered: Numbered) -> None:
        try:
            watcher.send_nowait(numbered)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self._watchers.discard(watcher)
            watcher.close()
