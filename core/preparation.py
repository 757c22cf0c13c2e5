"""What must be known and on disk before this machine can serve: hardware, model, benchmark, plan, model file.

Each step is kept, so that a start with everything known takes no time. Never loads a model to serve and never trades.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from core import events as e
from core.benchmark import run_benchmark
from core.device import Benchmark, Machine
from core.journal import Journal
from core.metamodel.choice import NoPlan
from core.metamodel.goal import Goal
from core.metamodel.meta_model import MetaModel
from core.model_card import ModelCard
from core.model_store import ModelStore
from core.plan import Choice
from core.probe import find_machine
from core.settings import Settings


class CannotServe(Exception):
    """This machine cannot serve as it is; the message says why and what to do."""


class Prepared(msgspec.Struct, frozen=True):
    """Everything that serving needs."""

    card: ModelCard
    choice: Choice
    path: Path


class Preparation:
    """Owns the way from a bare machine to a file that can be served."""

    def __init__(self, journal: Journal, models: ModelStore, *, meta_model: MetaModel, settings: Settings) -> None:
        self._journal = journal
        self._models = models
        self._meta_model = meta_model
        self._settings = settings

    async def machine(self) -> Machine:
        """The hardware; looked at once an engine's life, and announced."""
        if self._journal.state.machine is None:
            machine = await find_machine()
            self._journal.announce(e.MachineFound(time.time(), machine))
            return machine
        return self._journal.state.machine

    async def refresh_machine(self) -> Machine:
        """Look again: free memory changes, and so may devices."""
        machine = await find_machine()
        self._journal.announce(e.MachineFound(time.time(), machine))
        return machine

    async def add_model(self, path: Path, *, name: str = "") -> ModelCard:
        """Take a GGUF into the store. Raises the store's own errors."""
        card = await self._models.add(path, name=name or None, on_progress=self._progress("Adding the model"))
        await self._journal.record(e.ModelAdded(time.time(), card))
        return card

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
        benchmark = await run_benchmark(
            machine, path, card=card, on_progress=self._progress("Measuring this computer")
        )
        await self._journal.record(e.BenchmarkFinished(time.time(), benchmark))
        return benchmark

    async def prepare(self, model: str) -> Prepared:
        """Do whatever is still missing. Raises CannotServe, or the store's own errors."""
        machine = await self.refresh_machine()
        card = self.card(model)
        benchmark = self._journal.state.benchmark
        if benchmark is None or not is_usable(benchmark, machine):
            benchmark = await self.measure(machine, card)
        choice = self._choose(card, machine, benchmark=benchmark)
        quantization = choice.plan.quantization
        await self._models.ensure_variant(
            card.model, quantization, on_progress=self._progress(f"Preparing {card.title} · {quantization}")
        )
        if self._journal.state.choice != choice:
            await self._journal.record(e.PlanChosen(time.time(), choice))
        return Prepared(card, choice, self._models.path_of(card.model, quantization))

    def _choose(self, card: ModelCard, machine: Machine, *, benchmark: Benchmark) -> Choice:
        goal = Goal(quality=self._settings.quality)
        choice = self._meta_model.choose(card, machine, benchmark=benchmark, goal=goal)
        if isinstance(choice, NoPlan):
            raise CannotServe(choice.reason)
        return choice

    def _progress(self, work: str) -> Callable[[float, str], None]:
        def tell(fraction: float, text: str) -> None:
            self._journal.announce(e.WorkProgressed(time.time(), work, min(fraction, 0.999), text or work))

        return tell


def is_usable(benchmark: Benchmark, machine: Machine) -> bool:
    """A benchmark speaks for this machine while its device is there with the same driver and runtime."""
    return benchmark.runtime == machine.runtime and any(
        (device.name, device.backend, device.driver)
        == (benchmark.device.name, benchmark.device.backend, benchmark.device.driver)
        for device in machine.devices
    )
