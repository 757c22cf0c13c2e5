"""What ended jobs teach during a stay in the network: their speeds are written down, and promises follow them.

Off the jobs' way: it hears of ends from the journal, and writes some at a time. Never decides how to serve.
"""

from __future__ import annotations

import logging
from collections import deque

import trio

from core import events as e
from core.calibration import Calibration
from core.device import Device
from core.job import JobState
from core.journal import Journal
from core.memory import device_key
from core.metamodel.fit import file_bytes
from core.model_card import ModelCard
from core.model_server import ModelServer
from core.plan import Choice, Estimate
from core.speed_record import MeasuredRun, Place, job_run, shape_of_model, thermal_of
from core.store import StoreError

WRITE_EVERY_S = 2.0
MAX_UNWRITTEN = 32

log = logging.getLogger(__name__)


class Learning:
    """One a stay. `estimate` is what the loaded plan does by what is known now."""

    def __init__(self, journal: Journal, server: ModelServer, *, choice: Choice, card: ModelCard, limit_c: int) -> None:
        self._journal = journal
        self._scheduler = server.scheduler
        self._loaded = server.scheduler.speed
        self._choice = choice
        self._card = card
        self._limit_c = limit_c
        self._calibration = Calibration()
        self._unwritten: deque[MeasuredRun] = deque(maxlen=MAX_UNWRITTEN)  # full: the oldest is only in the calibration

    @property
    def estimate(self) -> Estimate:
        """The choice's estimate, corrected by the jobs since the model was loaded."""
        return self._calibration.estimate(self._choice.estimate)

    async def run(self) -> None:
        """Learn of every job that ends, until cancelled. What is missed under load is only a row."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            while True:
                await self._watch()

    def learn(self, ended: e.JobEnded) -> None:
        """Let the next promises follow this job, and remember to write it down."""
        known = self._place(ended.at)
        if ended.state is not JobState.FINISHED or known is None:
            return
        run = job_run(known, usage=ended.usage, timing=ended.timing)
        if run is None:
            return
        self._calibration = self._calibration.with_run(run, self._loaded)
        self._scheduler.calibrate(self._calibration.speed(self._loaded))
        self._unwritten.append(run)

    async def write(self) -> None:
        """Everything that was learned since the last time, as facts. A full disk is told of elsewhere."""
        runs = tuple(self._unwritten)
        self._unwritten.clear()
        try:
            await self._journal.record(*(e.SpeedMeasured(run.at, run) for run in runs))
        except StoreError as error:
            log.debug("what was measured is not written down: %s", error)

    async def _watch(self) -> None:
        with self._journal.watch() as watcher:
            async for numbered in watcher.events:
                if isinstance(numbered.event, e.JobEnded):
                    self.learn(numbered.event)
        await trio.lowlevel.checkpoint()

    async def _write(self) -> None:
        while True:
            await trio.sleep(WRITE_EVERY_S)
            if self._unwritten:
                await self.write()

    def _place(self, now: float) -> MeasuredRun | None:
        """A run by the loaded plan on its device as it is now, nothing measured yet; None when the device is gone."""
        state, plan = self._journal.state, self._choice.plan
        device = self._device()
        if state.machine is None or device is None:
            return None
        thermal = thermal_of(state.reading, limit_c=self._limit_c)
        card = state.models.get(plan.model, self._card)
        place = Place(device_key(device), device.driver, state.machine.runtime, thermal)
        return MeasuredRun(now, place, plan, shape_of_model(card), file_bytes(card, plan.quantization))

    def _device(self) -> Device | None:
        machine, wanted = self._journal.state.machine, self._choice.plan.device_id
        return next((d for d in machine.devices if d.device_id == wanted), None) if machine is not None else None
