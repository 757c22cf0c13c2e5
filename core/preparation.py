"""What must be known and on disk before this machine can serve: hardware, model, benchmark, plan, model file.

Each step is kept, so that a start with everything known takes no time. Never loads a model to serve and never trades.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec
import trio

from core import events as e
from core.benchmark import Measured, measure_devices, run_benchmark
from core.demand import job_mix, mix_key
from core.device import Benchmark, Device, Machine
from core.explorer import Trial
from core.journal import Journal
from core.memory import FailedLoad, MeasuredLoad, device_key, shape_of
from core.metamodel.abilities import LLAMA, types_of
from core.metamodel.evidence import Experience
from core.metamodel.federation import Heard
from core.metamodel.fit import Fit, need, overhead_bytes
from core.metamodel.goal import JobMix, goal_of
from core.metamodel.gpu_use import gpu_shortfall
from core.metamodel.own_measurements import place_of
from core.model_card import ModelCard
from core.model_store import ModelStore
from core.model_work import record_models
from core.pinned import pin_hindrance, pin_notice
from core.plan import Choice, NoPlan, Plan, plan_words
from core.probe import find_machine
from core.settings import Settings
from core.speed_record import thermal_of
from core.work_progress import progress_of
from core.worker.messages import Fault, FaultKind, MeasurePlan, PlanMeasured
from core.worker.process import run_once

if TYPE_CHECKING:
    from core.metamodel.meta_model import MetaModel
    from core.trials import Situation


LOOK_FRESH_S = 5.0
COUNT_S = 60.0
GPU_TROUBLE = "gpu"
PIN_TROUBLE = "plan"
MEASURING = "Measuring this computer"
MAX_RECONSIDERATIONS = 3
PLAINLY_SMALL = 2
UNLOADABLE = (FaultKind.OUT_OF_MEMORY, FaultKind.INTERNAL)


class CannotServe(Exception):
    """This machine cannot serve as it is; the message says why and what to do."""


class Prepared(msgspec.Struct, frozen=True):
    """Everything that serving needs."""

    card: ModelCard
    choice: Choice
    path: Path


class Preparation:
    """Owns the way from a bare machine to a file that can be served. heard: the rows of peers that speeds may be
    learned from."""

    def __init__(
        self,
        journal: Journal,
        models: ModelStore,
        *,
        prior: Path,
        settings: Settings,
        heard: Callable[[], tuple[Heard, ...]] = tuple,
    ) -> None:
        self._journal = journal
        self._heard = heard
        self._models = models
        self._prior = prior
        self._meta_model: MetaModel | None = None
        self._looking = trio.Lock()
        self._looked_at = 0.0
        self._is_outdone = False
        self._settings = settings

    async def machine(self) -> Machine:
        """The hardware, as it was last looked at; announced at the first look."""
        return self._journal.state.machine or await self.refresh_machine()

    async def refresh_machine(self) -> Machine:
        """Look again, unless that was just done: free memory changes, and so may devices."""
        async with self._looking:
            known = self._journal.state.machine
            if known is not None and time.monotonic() - self._looked_at < LOOK_FRESH_S:
                return known
            machine = await find_machine()
            self._looked_at = time.monotonic()
            self._journal.announce(e.MachineFound(time.time(), machine))
            return machine

    def card(self, model: str) -> ModelCard:
        """The model to serve: the one that is named, else the first there is. Raises CannotServe."""
        cards = {card.model: card for card in self._models.cards()}
        if model and model not in cards:
            raise CannotServe(f"There is no model {model} here. Add one with `starling models add FILE`.")
        if not cards:
            raise CannotServe("There is no model to serve yet. Add one with `starling models add FILE`.")
        return cards[model] if model else next(iter(cards.values()))

    async def measure(self, machine: Machine, card: ModelCard) -> Benchmark:
        """Run the benchmark on the best device and keep it."""
        path = self._models.path_of(card.model, card.source_quantization)
        with progress_of(self._journal, MEASURING) as tell:
            benchmark = await run_benchmark(machine, path, card=card, on_progress=tell)
        await self._journal.record(e.BenchmarkFinished(time.time(), benchmark))
        return benchmark

    async def measure_machine(self, model: str) -> Measured:
        """Every device with made-up models, then the best one with the model that would be served, if there is one, so
        that the plan is chosen anew. Raises BenchmarkFailed or CannotServe."""
        machine = await self.refresh_machine()
        with progress_of(self._journal, MEASURING) as tell:
            measured = await measure_devices(machine, self._models.folder.parent, on_progress=tell)
        await self._journal.record(e.DevicesMeasured(time.time(), measured.benchmarks))
        if self._models.cards():
            await self.measure(machine, self.card(model))
        return measured

    async def pin(self, plan: Plan) -> str:
        """Keep this plan for its model. Raises CannotServe with what stands against it, were nothing loaded."""
        from core.trials import freed

        worker = self._journal.state.worker
        card, found = self.card(plan.model), await self.refresh_machine()
        machine = freed(found, worker.device_bytes if worker is not None else {})
        if plan.quantization not in types_of(plan.runtime, card):
            raise CannotServe(f"{plan.quantization} cannot be made of {card.title} here.")
        hindrance = pin_hindrance(plan, machine, card=card, fit=self._fit())
        if hindrance:
            raise CannotServe(f"{plan_words(plan)} cannot be kept: {hindrance}")
        await self._journal.record(e.PlanPinned(time.time(), plan))
        return f"{plan_words(plan)} is kept for {card.title} until you unpin it."

    async def unpin(self, model: str) -> str:
        """Let the plan be chosen again. Raises CannotServe when none is kept."""
        if model not in self._journal.state.pins:
            raise CannotServe(f"No plan is kept for {model}.")
        await self._journal.record(e.PlanUnpinned(time.time(), model))
        self._journal.announce(e.TroubleFound(time.time(), PIN_TROUBLE, ""))
        return f"The plan for {model} is chosen by itself again."

    async def prepare(self, model: str) -> Prepared:
        """Do whatever is still missing. Raises CannotServe, or the store's own errors."""
        machine = await self.refresh_machine()
        card = self.card(model)
        benchmark = self._journal.state.benchmark
        if benchmark is None or not is_usable(benchmark, machine):
            benchmark = await self.measure(machine, card)
        prepared = await self._prepared(card, machine, benchmark=benchmark)
        for _ in range(MAX_RECONSIDERATIONS):
            if await self._has_room(prepared, machine):
                break
            prepared = await self._prepared(card, machine, benchmark=benchmark)
        await self._say_what_the_gpu_does(prepared, machine)
        return prepared

    async def _prepared(self, card: ModelCard, machine: Machine, *, benchmark: Benchmark) -> Prepared:
        """A choice with its file on disk. Raises CannotServe, or the store's own errors."""
        choice = await self._choice(card, machine, benchmark=benchmark)
        quantization = choice.plan.quantization
        with progress_of(self._journal, f"Preparing {card.title} · {quantization}") as tell:
            await self._models.ensure_variant(card.model, quantization, on_progress=tell)
        await record_models(self._journal, self._models)
        if self._journal.state.choice != choice:
            await self._journal.record(e.PlanChosen(time.time(), choice))
        return Prepared(card, choice, self._models.path_of(card.model, quantization))

    async def _has_room(self, prepared: Prepared, machine: Machine) -> bool:
        """Whether the plan fits by llama.cpp's own count, which is asked once of a plan that is not plainly small."""
        plan, card = prepared.choice.plan, prepared.card
        if plan.runtime != LLAMA:
            return True
        devices = devices_of(plan, machine)
        fit = self._fit()
        if all(_is_plainly_small(plan, card, device=device, fit=fit) for device in devices):
            return True
        report = await run_once(MeasurePlan(plan, str(prepared.path)), deadline_s=COUNT_S)
        if isinstance(report, PlanMeasured):
            await self._keep_load(prepared, report.device_bytes)
        elif plan.gpu_layers and isinstance(report, Fault) and report.kind in UNLOADABLE:
            # llama.cpp aborts where one buffer is larger than the driver allows: the load would end alike
            await self.forget(prepared, free_bytes=0)
        fit = self._fit()
        return all(fit.fits(fit.needed_bytes(plan, card, device=device), device) for device in devices)

    async def _say_what_the_gpu_does(self, prepared: Prepared, machine: Machine) -> None:
        """Where the processor works though there is a GPU: why, and what would help; nothing when all is well."""
        limits = goal_of(self._settings).limits

        def reason() -> str:
            return gpu_shortfall(prepared.card, machine, plan=prepared.choice.plan, limits=limits, fit=self._fit())

        self._journal.announce(e.TroubleFound(time.time(), GPU_TROUBLE, await trio.to_thread.run_sync(reason)))

    async def forget(self, prepared: Prepared, *, free_bytes: int) -> None:
        """This plan ran out of memory with so much free: the next choice is a smaller one, restarts included."""
        plan = prepared.choice.plan
        now = time.time()
        for device in devices_of(plan, await self.machine()):
            needed = self._fit().needed_bytes(plan, prepared.card, device=device)
            free = free_bytes if free_bytes and not plan.more_devices else device.free_bytes
            failure = FailedLoad(device_key(device), needed, free, plan.model, shape_of(plan))
            await self._journal.record(e.MemoryRanOut(now, failure))

    async def learn(self, prepared: Prepared) -> None:
        """Keep what the worker that has just loaded this plan counted, for the next choice."""
        worker = self._journal.state.worker
        if worker is not None:
            await self._keep_load(prepared, worker.device_bytes)

    async def _keep_load(self, prepared: Prepared, counted: dict[str, int]) -> None:
        """A count of this plan by device, unless the same is known already."""
        plan = prepared.choice.plan
        for device in devices_of(plan, await self.machine()):
            took = counted.get(device.device_id, 0) + overhead_bytes(device)
            known = self._fit().measured(plan, device)
            if device.device_id in counted and (known is None or known.measured_bytes != took):
                said = need(plan, prepared.card, device=device).device_bytes
                load = MeasuredLoad(device_key(device), plan.model, shape_of(plan), said, took)
                await self._journal.record(e.LoadMeasured(time.time(), load))

    def use_prior(self, prior: Path) -> None:
        """Predict with this file from the next choice on."""
        self._prior, self._meta_model = prior, None

    async def trials(self, prepared: Prepared) -> tuple[Trial, ...]:
        """What may be tried while this is served and nobody wants anything; nothing of a plan that its owner keeps."""
        machine = await self.refresh_machine()
        if prepared.card.model in self._journal.state.pins:
            return ()

        def find() -> tuple[Trial, ...]:
            from core.trials import find_trials

            path_of = partial(self._models.path_of, prepared.card.model)
            return find_trials(self._ready(machine), self._situation(prepared, machine), path_of=path_of)

        return await trio.to_thread.run_sync(find)

    async def is_outdone(self, prepared: Prepared) -> bool:
        """Whether another plan than this, which is loaded now, is known to be better by far; the next choice is then
        made anew, whatever it rests on."""
        machine, worker = await self.refresh_machine(), self._journal.state.worker
        if prepared.card.model in self._journal.state.pins:
            return False

        def judge() -> bool:
            from core.trials import freed, is_outdone

            without = freed(machine, worker.device_bytes if worker is not None else {})
            return is_outdone(self._ready(without), self._situation(prepared, without))

        self._is_outdone = await trio.to_thread.run_sync(judge)
        return self._is_outdone

    def _situation(self, prepared: Prepared, machine: Machine) -> Situation:
        from core.trials import Situation

        state = self._journal.state
        card = state.models.get(prepared.card.model, prepared.card)
        goal = goal_of(self._settings, job_mix(state.demand, now=time.time()))
        return Situation(card, prepared.choice.plan, machine, goal, state.benchmark, state.measured)

    def _fit(self) -> Fit:
        return Fit(self._journal.state.memory)

    async def _choice(self, card: ModelCard, machine: Machine, *, benchmark: Benchmark) -> Choice:
        """The choice that holds while nothing it rests on has changed; else a new one. Raises CannotServe."""
        state = self._journal.state
        goal = goal_of(self._settings, job_mix(state.demand, now=time.time()))
        failed = sum(failure.needed_bytes for failure in state.memory.failures)
        cells = len(state.speeds.at(place_of(benchmark.device, machine.runtime)))
        wishes = crc32(msgspec.json.encode(msgspec.structs.replace(goal, mix=JobMix())))
        about = f"{card.source_sha256[:16]} {benchmark.at:.3f} {goal.quality} {mix_key(goal.mix)}"
        basis = f"{about} {failed} {cells} {wishes:08x}"
        kept = self._kept(card, machine)
        basis = basis if kept is None else f"{basis} kept {kept}"
        known = None if self._is_outdone else state.choice
        self._is_outdone = False
        if known is not None and known.basis == basis and still_fits(known, machine, card=card, fit=self._fit()):
            return known

        def choose() -> Choice | NoPlan:
            meta_model = self._ready(machine)
            if kept is not None:
                return meta_model.keep(kept, card, machine=machine, benchmark=benchmark, measured=state.measured)
            return meta_model.choose(card, machine, benchmark=benchmark, goal=goal, measured=state.measured)

        choice = await trio.to_thread.run_sync(choose)
        if isinstance(choice, NoPlan):
            raise CannotServe(choice.reason)
        return msgspec.structs.replace(choice, basis=basis)

    def _kept(self, card: ModelCard, machine: Machine) -> Plan | None:
        """The plan that the owner keeps for this model, while it can be served; else they are told why it is not."""
        plan = self._journal.state.pins.get(card.model)
        hindrance = pin_hindrance(plan, machine, card=card, fit=self._fit()) if plan is not None else ""
        notice = pin_notice(plan, hindrance) if plan is not None and hindrance else ""
        if notice or PIN_TROUBLE in self._journal.state.trouble:
            self._journal.announce(e.TroubleFound(time.time(), PIN_TROUBLE, notice))
        return plan if not hindrance else None

    def _ready(self, machine: Machine) -> MetaModel:
        """The meta-model with all that is known now."""
        meta_model = self._opened()
        meta_model.fit, meta_model.experience = self._fit(), self._experience(machine)
        return meta_model

    def _experience(self, machine: Machine) -> Experience:
        """What own runs and peers say at the present heat."""
        state = self._journal.state
        thermal = thermal_of(state.reading, limit_c=self._settings.max_temperature_c)
        return Experience(state.speeds, machine.runtime, thermal, self._heard())

    def _opened(self) -> MetaModel:
        """The meta-model, opened when it is first needed: LightGBM takes a second to load."""
        if self._meta_model is None:
            from core.metamodel.meta_model import MetaModel

            self._meta_model = MetaModel.open(self._prior)
        return self._meta_model


def is_usable(benchmark: Benchmark, machine: Machine) -> bool:
    """A benchmark speaks for this machine while its device is there with the same driver and runtime."""
    return benchmark.runtime == machine.runtime and any(
        (device.name, device.backend, device.driver)
        == (benchmark.device.name, benchmark.device.backend, benchmark.device.driver)
        for device in machine.devices
    )


def still_fits(choice: Choice, machine: Machine, *, card: ModelCard, fit: Fit) -> bool:
    """Whether the plan's devices are there with enough free memory for it."""
    plan = choice.plan
    devices = devices_of(plan, machine)
    return len(devices) == 1 + len(plan.more_devices) and all(
        fit.fits(fit.needed_bytes(plan, card, device=device), device) for device in devices
    )


def devices_of(plan: Plan, machine: Machine) -> list[Device]:
    """The plan's devices that are in this machine."""
    return [d for d in machine.devices if d.device_id == plan.device_id or d.device_id in plan.more_devices]


def _is_plainly_small(plan: Plan, card: ModelCard, *, device: Device, fit: Fit) -> bool:
    """Known exactly, or so small here that a wrong estimate would do no harm."""
    needed = fit.needed_bytes(plan, card, device=device)
    return fit.measured(plan, device) is not None or PLAINLY_SMALL * needed <= device.free_bytes
