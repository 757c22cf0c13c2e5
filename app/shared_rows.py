"""What this machine tells its peers of its speeds, and what it has heard of theirs: where store, measurements and swarm
meet.

Shares nothing unless its owner says so, and only what was measured on a device whose own rates are known.
"""

from __future__ import annotations

import logging
import time

import msgspec
import trio

from core.device import Benchmark, Device
from core.journal import Journal
from core.metamodel.features import is_of_device, rates
from core.metamodel.federation import MAX_ROWS, Heard, SharedRow, shared_row
from core.metamodel.own_measurements import place_of
from core.settings import Settings
from core.store import Store, StoreError
from p2p.identity import Identity
from p2p.row_book import RowBook
from p2p.row_exchange import DAY_S, RowExchange, RowPorts
from p2p.row_messages import SignedRows

log = logging.getLogger(__name__)


class SharedRows:
    """One home's rows. `heard` is what its meta-model may learn from."""

    def __init__(self, journal: Journal, store: Store, *, settings: Settings) -> None:
        self._journal = journal
        self._store = store
        self._settings = settings
        self._book = RowBook()

    def load(self) -> None:
        """Take up what was heard before, checked anew. Blocking. Raises StoreError."""
        today = int(time.time() // DAY_S)
        for body in self._store.peer_rows():
            try:
                fault = self._book.add(msgspec.json.decode(body, type=SignedRows), today=today)
            except msgspec.MsgspecError as error:
                fault = str(error)
            if fault:
                log.debug("kept rows are not believed any more: %s", fault)

    def heard(self) -> tuple[Heard, ...]:
        """Every believed row of other peers; none where the owner does not want to learn from them."""
        return self._book.heard() if self._settings.learn_from_peers else ()

    def own(self) -> tuple[SharedRow, ...]:
        """What may be told of this machine now, the newest."""
        state = self._journal.state
        if state.machine is None or not self._settings.share_measurements:
            return ()
        known = (*filter(None, (state.benchmark,)), *state.measured)
        rows = [
            row
            for device in state.machine.devices
            if (measured := _measured(device, known)) is not None
            for cell in state.speeds.at(place_of(device, state.machine.runtime))
            if cell.run.place.device == place_of(device, "").device
            and (row := shared_row(cell, device, able=rates(device, measured))) is not None
        ]
        return tuple(rows[-MAX_ROWS:])

    def exchange(self, identity: Identity) -> RowExchange:
        """The two ends of the rows protocol for one stay in the swarm."""
        ports = RowPorts(own=self.own, kept=self._keep, clock=time.time)
        return RowExchange(identity, self._book, ports=ports, shares=self._settings.share_measurements)

    @property
    def learns(self) -> bool:
        """Whether peers are to be asked."""
        return self._settings.learn_from_peers

    async def _keep(self, signed: SignedRows) -> None:
        body = msgspec.json.encode(signed).decode()
        try:
            await trio.to_thread.run_sync(lambda: self._store.keep_peer_rows(signed.peer_id, body, day=signed.day))
        except StoreError as error:
            log.debug("rows are kept in memory only: %s", error)


def _measured(device: Device, benchmarks: tuple[Benchmark, ...]) -> Benchmark | None:
    return next((b for b in benchmarks if is_of_device(b, device) and b.memory_bandwidth_gbs > 0), None)
