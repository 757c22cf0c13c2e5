"""Trains a new prior now and then from what peers agree on, in a child of its own; hands on the one to predict with.

Never in this process and never for long: training is a child with a deadline at low priority. A prior that does not win
on the frozen set is thrown away by the child itself (core.metamodel.refit).
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import msgspec
import trio

from core.metamodel.federation import Heard
from core.metamodel.predictor import prior_fault

FIRST_AFTER_S = 3600.0
EVERY_S = 86_400.0
DEADLINE_S = 600.0
MIN_PEERS = 20

log = logging.getLogger(__name__)


class PriorKeeper:
    """Owns one home's own prior, which is void with another shipped one."""

    def __init__(self, shipped: Path, folder: Path, *, heard: Callable[[], tuple[Heard, ...]]) -> None:
        self._shipped = shipped
        self._own = folder / f"prior-{crc32(shipped.read_bytes()):08x}.json"
        self._heard = heard

    @property
    def best(self) -> Path:
        """The file to predict with: our own where there is one that has won and can be read, else the shipped one."""
        if not self._own.exists():
            return self._shipped
        if fault := prior_fault(self._own):
            log.warning("the prior of this home is not used: %s", fault)
            return self._shipped
        return self._own

    async def run(self, taken: Callable[[Path], None]) -> None:
        """Refit once a day, until cancelled; taken is called with each new prior. Too few peers: nothing is done."""
        await trio.sleep(FIRST_AFTER_S)
        before = 0
        while True:
            heard = self._heard()
            peers = len({one.peer for one in heard})
            if peers >= max(MIN_PEERS, before + 1) and not getattr(sys, "frozen", False):
                before = peers
                if await self.refit(heard):
                    taken(self._own)
            await trio.sleep(EVERY_S)

    async def refit(self, heard: tuple[Heard, ...]) -> bool:
        """Train and judge in a child; True when a better prior lies in its place. A child that fails is no error."""
        try:
            folder = await trio.to_thread.run_sync(self._folder)
            with tempfile.TemporaryDirectory(prefix="refit-", dir=folder) as scratch:
                return await self._train(heard, Path(scratch))
        except OSError as error:
            log.debug("no new prior: %s", error)
            return False

    async def _train(self, heard: tuple[Heard, ...], scratch: Path) -> bool:
        rows, out = scratch / "rows.json", scratch / "prior.json"
        await trio.to_thread.run_sync(rows.write_bytes, msgspec.json.encode(heard))
        command = [sys.executable, "-P", "-m", "core.metamodel.refit", "--rows", str(rows), "--out", str(out)]
        root = str(Path(__file__).resolve().parents[1])
        environment = {**os.environ, "PYTHONPATH": root}
        with trio.move_on_after(DEADLINE_S):
            done = await trio.run_process(
                [*command, "--prior", str(self._shipped)],
                check=False, capture_stdout=True, capture_stderr=True, env=environment, cwd=root,
            )  # fmt: skip
            log.debug("refitting ended with %d: %s", done.returncode, done.stdout[-200:])
            if done.returncode == 0 and out.exists():
                out.replace(self._own)
                return True
        return False

    def _folder(self) -> Path:
        self._own.parent.mkdir(parents=True, exist_ok=True)
        return self._own.parent
