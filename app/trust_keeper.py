"""What peers kept and broke, over restarts: the swarm's Trust in the home's store.

Decides nothing. Writes in a thread, a few at a time; what cannot be written is kept in memory only.
"""

from __future__ import annotations

import logging
import time

import msgspec
import trio

from core.job import PeerId
from core.store import Store, StoreError
from p2p.trust import Standing, Trust

WRITE_EVERY_S = 2.0

log = logging.getLogger(__name__)


class TrustKeeper:
    """One home's memory of peers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unwritten: dict[PeerId, Standing] = {}  # one a peer, and Trust bounds the peers

    def load(self) -> Trust:
        """What was known last time. Blocks; nothing is known where it cannot be read."""
        try:
            bodies = self._store.standings()
        except StoreError as error:
            log.warning("what is known of peers is not read: %s", error)
            bodies = []
        known = [(PeerId(peer), standing) for peer, body in bodies if (standing := _decoded(body)) is not None]
        return Trust(known, kept=self._unwritten.__setitem__)

    async def run(self) -> None:
        """Write what changes, until cancelled, and the rest then."""
        try:
            while True:
                await trio.sleep(WRITE_EVERY_S)
                await trio.to_thread.run_sync(self.flush)
        finally:
            with trio.CancelScope(shield=True):  # the store bounds its own waits
                await trio.to_thread.run_sync(self.flush)

    def flush(self) -> None:
        """Write what has changed. Blocks."""
        if not self._unwritten:
            return
        bodies = {str(peer): msgspec.json.encode(standing).decode() for peer, standing in self._unwritten.items()}
        self._unwritten.clear()
        try:
            self._store.keep_standings(bodies, at=time.time())
        except StoreError as error:
            log.debug("what is known of peers is kept in memory only: %s", error)


def _decoded(body: str) -> Standing | None:
    try:
        return msgspec.json.decode(body, type=Standing)
    except msgspec.MsgspecError as error:
        log.debug("one peer's standing is not readable: %s", error)
        return None
