"""The engine: executes commands, tells what happens, runs until told to quit. Headless is this, with no one watching.

Never draws, never prints, and never touches libp2p or the chain itself: it is handed ports that do.
"""

from __future__ import annotations

import time

import trio

from core import commands as c
from core import events as e
from core.benchmark import BenchmarkFailed, benchmark_sentence
from core.journal import Journal
from core.membership import Membership, MembershipParts
from core.model_server import LoadFailed
from core.model_store import ModelStore
from core.model_trouble import ModelStoreError
from core.model_work import ModelWork, record_models
from core.node_state import Presence
from core.payments.settlement import SettlementError
from core.plan import Plan
from core.preparation import CannotServe
from core.probe import read_device
from core.recovery import LEFT, abandoned
from core.settings import Settings
from core.store import StoreError
from core.trouble import Trouble, trouble_of

READING_EVERY_S = 2.0
FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 60.0
KNOWN = (BenchmarkFailed, CannotServe, LoadFailed, ModelStoreError, StoreError)


class Engine:
    """One peer. `run` owns every task; commands only change what they do."""

    def __init__(self, parts: MembershipParts, *, models: ModelStore, settings: Settings) -> None:
        self._parts = parts
        self._journal: Journal = parts.journal
        self._models = models
        self._model_work = ModelWork(parts.journal, models)
        self._settlement = parts.settlement
        self._settings = settings
        self._model = settings.model
        self._membership: Membership | None = None
        self._stay = trio.CancelScope()
        self._join = trio.Event()
        self._quit = trio.Event()
        self._measuring: trio.CancelScope | None = None

    async def run(self) -> None:
        """Serve until QuitEngine or cancellation. Raises Trouble when the machine cannot work as it is."""
        await self._journal.record(*abandoned(self._journal.state, time.time()), e.EngineStarted(time.time()))
        await record_models(self._journal, self._models)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._settlement.run)
            nursery.start_soon(self._read_device)
            nursery.start_soon(self._stay_in_network)
            if self._settings.join_at_start or self._journal.state.is_join_wanted:
                await self._join_again()
            await self._quit.wait()
            nursery.cancel_scope.cancel()

    async def execute(self, command: c.Command) -> c.Reply:
        """Carry out one command; a failure becomes a Refused with its reason."""
        try:
            return await self._execute(command)
        except (BenchmarkFailed, CannotServe, ModelStoreError, StoreError, SettlementError, Trouble) as error:
            return c.Refused(str(error))
        except OSError as error:
            return c.Refused(f"The system refused it: {error.strerror or type(error).__name__}.")

    async def _execute(self, command: c.Command) -> c.Reply:
        match command:
            case c.JoinNetwork():
                return await self._join_network()
            case c.LeaveNetwork():
                return await self._leave(now=command.now)
            case c.PauseWork():
                return await self._pause(command)
            case c.ResumeWork():
                await self._journal.record(e.WorkResumed(time.time()))
                return c.Done("Taking jobs again.")
            case c.CancelJob():
                return await self._cancel(command)
            case c.RedeemVouchers():
                return c.Done(await self._settlement.redeem_now())
            case c.WithdrawEarnings():
                return c.Done(await self._settlement.withdraw())
            case c.QuitEngine():
                return await self._quit_engine(command)
            case c.MeasureMachine():
                return await self._measure()
            case c.ServeModel():
                return await self._serve(command.model)
            case c.PinPlan():
                return await self._keep(command.plan)
            case c.UnpinPlan():
                return await self._unpin(command.model)
            case c.StopModelWork() if self._measuring is not None:
                self._measuring.cancel()
                return c.Done("The benchmark is being stopped.")
            case _:
                return await self._model_work.execute(command)

    async def _join_network(self) -> c.Reply:
        self._parts.preparation.card(self._model)
        if not self._journal.state.is_join_wanted or self._membership is None:
            await self._journal.record(e.JoinRequested(time.time()))
        self._join.set()
        is_in = self._journal.state.presence is Presence.JOINED
        return c.Done("This computer is in the network." if is_in else "Joining the network.")

    async def _join_again(self) -> None:
        """A model that is gone since is trouble to tell, not a reason to have no engine to tell it."""
        try:
            await self._join_network()
        except CannotServe as error:
            self._journal.announce(e.TroubleFound(time.time(), "network", str(error)))
            await self._give_up(Trouble(str(error), is_final=True))

    async def _leave(self, *, now: bool) -> c.Reply:
        membership = self._membership
        await self._journal.record(e.LeaveRequested(time.time()))
        self._join = trio.Event()
        if membership is not None:
            if now:
                await membership.stop_jobs("The owner left the network.")
            else:
                await membership.drain()
        self._stay.cancel()
        return c.Done("Left the network. The engine is still up; `starling quit` stops it.")

    async def _pause(self, command: c.PauseWork) -> c.Reply:
        now = time.time()
        until = None if command.for_s is None else now + max(0.0, command.for_s)
        await self._journal.record(e.WorkPaused(now, "Paused by you.", until))
        if command.now and self._membership is not None and self._membership.desk is not None:
            await self._membership.desk.cancel_all("The owner paused this peer.")
        return c.Done("Paused. Running jobs are finished first." if not command.now else "Paused.")

    async def _cancel(self, command: c.CancelJob) -> c.Reply:
        desk = self._membership.desk if self._membership is not None else None
        if desk is None or command.job_id not in self._journal.state.jobs:
            return c.Refused("There is no such job running or waiting here.")
        await desk.cancel(command.job_id, "The owner stopped this job.")
        return c.Done("The job is being stopped; what was delivered stays billed.")

    async def _quit_engine(self, command: c.QuitEngine) -> c.Reply:
        wanted = self._journal.state.is_join_wanted
        if self._membership is not None:
            await self._leave(now=command.now)
        if wanted:
            await self._journal.record(e.JoinRequested(time.time()))
        self._quit.set()
        return c.Done("Starling has stopped.")

    async def _measure(self) -> c.Reply:
        if self._measuring is not None:
            return c.Refused("A benchmark is already running.")
        if self._membership is not None:
            return c.Refused("Leave the network first: jobs would disturb the measurement, and it them.")
        with trio.CancelScope() as self._measuring:
            try:
                measured = await self._parts.preparation.measure_machine(self._model)
            finally:
                self._measuring = None
            return c.Done(" ".join((*map(benchmark_sentence, measured.benchmarks), *measured.failures)))
        return c.Refused("The benchmark was stopped.")

    async def _serve(self, model: str) -> c.Reply:
        self._parts.preparation.card(model)
        self._model = model
        if self._membership is None:
            return c.Done(f"{model} is served from the next time you join.")
        await self._membership.drain()
        self._stay.cancel()
        return c.Done(f"Changing over to {model}.")

    async def _keep(self, plan: Plan) -> c.Reply:
        said = await self._parts.preparation.pin(plan)
        return c.Done(f"{said} {await self._serve_anew(plan.model)}".rstrip())

    async def _unpin(self, model: str) -> c.Reply:
        said = await self._parts.preparation.unpin(model)
        return c.Done(f"{said} {await self._serve_anew(model)}".rstrip())

    async def _serve_anew(self, model: str) -> str:
        """Prepare again what is served, unless its plan is the kept one already."""
        state = self._journal.state
        served = state.choice.plan if state.choice is not None else None
        if self._membership is None or served is None or served.model != model or served == state.pins.get(model):
            return ""
        await self._membership.drain()
        self._stay.cancel()
        return "The model is loaded anew for it."

    async def _stay_in_network(self) -> None:
        """Join whenever it is wanted; after a failure say why, and try again later with back-off."""
        retry_s = FIRST_RETRY_S
        while True:
            await self._join.wait()
            self._membership = Membership(self._parts, self._model)
            trouble: Trouble | None = None
            with trio.CancelScope() as self._stay:
                try:
                    await self._membership.run()
                except Exception as error:  # noqa: BLE001 - the edge of a stay: anything unknown is raised again
                    trouble = trouble_of(error, known=KNOWN)
            self._membership = None
            await self._journal.record(*abandoned(self._journal.state, time.time(), reason=LEFT))
            if trouble is None:
                retry_s = FIRST_RETRY_S
                continue
            self._journal.announce(e.TroubleFound(time.time(), "network", str(trouble)))
            if trouble.is_final:
                await self._give_up(trouble)
                continue
            with trio.move_on_after(retry_s):
                await self._quit.wait()
            retry_s = min(LONGEST_RETRY_S, retry_s * 2)

    async def _give_up(self, trouble: Trouble) -> None:
        """Wait for the owner; an engine that was started to join has nothing to wait for, and ends with the reason."""
        if self._settings.join_at_start:
            raise trouble
        await self._journal.record(e.LeaveRequested(time.time()))
        self._join = trio.Event()

    async def _read_device(self) -> None:
        while True:
            machine = await self._parts.preparation.machine()
            reading = await trio.to_thread.run_sync(read_device, machine.devices[0])
            self._journal.announce(e.DeviceRead(reading))
            await trio.sleep(READING_EVERY_S)
