"""Measure this machine in a throw-away child: with a model's own file before a first join, with made-up models and
every device for `starling bench`. The figures are what the meta-model starts from.

Never measures in this process, and never runs beside a serving worker: its owner sees to that.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from core.device import Benchmark, Device, DeviceKind, Machine
from core.model_card import ModelCard
from core.probe import serving_threads
from core.synthetic import shape_for
from core.worker.messages import BenchmarkDone, Fault, MeasureDevice, RunBenchmark, WorkerCommand
from core.worker.process import run_once

DEADLINE_S = 300.0
# The best device is measured in three quantizations, in about this time; the others in one.
BEST_LIMIT_S = 60.0
OTHER_LIMIT_S = 20.0
BEST_QUANTIZATIONS = ("Q4_K_M", "Q8_0", "F16")
STEADY_DRIFT = 0.05
FOLDER_PREFIX = "measuring-"
Tell = Callable[[float, str], None]


class BenchmarkFailed(Exception):
    """The machine could not be measured; the message says why."""


class Measured(msgspec.Struct, frozen=True):
    """One benchmark a device, the best device first, and a sentence about each device that could not be measured."""

    benchmarks: tuple[Benchmark, ...]
    failures: tuple[str, ...] = ()


async def run_benchmark(
    machine: Machine,
    path: Path,
    *,
    card: ModelCard,
    is_quick: bool = False,
    on_progress: Callable[[float, str], None] | None = None,
) -> Benchmark:
    """Measure the best device with this file of the card's model. Raises BenchmarkFailed."""
    command = RunBenchmark(
        path=str(path),
        model=card.model,
        quantization=_quantization(card, path),
        device=machine.devices[0],
        threads=serving_threads(machine.cpu_cores),
        quick=is_quick,
    )
    return await _benchmark(command, on_progress, subject="This computer")


async def measure_devices(machine: Machine, folder: Path, *, on_progress: Tell | None = None) -> Measured:
    """Every device with made-up models, which lie in folder for the time being. Raises BenchmarkFailed when none could
    be measured."""
    benchmarks: list[Benchmark] = []
    failures: list[str] = []
    async with _scratch(folder) as target:
        for number, device in enumerate(machine.devices):
            tell = _part(on_progress, device, number=number, count=len(machine.devices))
            command = await _command(machine, device, target=target)
            try:
                benchmarks.append(await _benchmark(command, tell, subject=device.name))
            except BenchmarkFailed as failed:
                failures.append(str(failed))
    if not benchmarks:
        raise BenchmarkFailed(" ".join(failures))
    return Measured(tuple(benchmarks), tuple(failures))


def benchmark_sentence(benchmark: Benchmark) -> str:
    """What the figures of a device mean, in plain words."""
    read, written = benchmark.prefill_tokens_per_s, benchmark.decode_tokens_per_s
    size = "" if benchmark.shape is None else f" of {_billions(benchmark.shape.parameters)} weights"
    wait_s = 500 / max(read, 1e-9) + 200 / max(written, 1e-9)
    sentence = (
        f"Your {benchmark.device.name} reads prompts at {read:,.0f} and writes {written:,.0f} tokens per second with a"
        f" model{size} in {benchmark.quantization}; that is about {_seconds(wait_s)} for a page read and an answer of"
        " 150 words."
    )
    if benchmark.drift <= STEADY_DRIFT:
        return sentence
    return (
        f"{sentence} Two runs differed by {100 * benchmark.drift:.0f} %: the machine was busy meanwhile. Close other"
        " programs and measure again for figures that hold."
    )


async def _command(machine: Machine, device: Device, *, target: Path) -> MeasureDevice:
    is_best = device == machine.devices[0]
    free = (await trio.to_thread.run_sync(shutil.disk_usage, target.parent)).free
    return MeasureDevice(
        target=str(target),
        device=device,
        threads=serving_threads(machine.cpu_cores),
        shape=shape_for(device, free_disk_bytes=free),
        quantizations=BEST_QUANTIZATIONS if is_best else BEST_QUANTIZATIONS[:1],
        limit_s=BEST_LIMIT_S if is_best else OTHER_LIMIT_S,
    )


async def _benchmark(command: WorkerCommand, tell: Tell | None, *, subject: str) -> Benchmark:
    report = await run_once(command, deadline_s=DEADLINE_S, on_progress=tell)
    match report:
        case BenchmarkDone(benchmark=benchmark):
            return benchmark
        case Fault(message=message):
            raise BenchmarkFailed(f"{subject} could not be measured. {message}")
        case _:
            raise BenchmarkFailed(f"{subject} could not be measured.")


@asynccontextmanager
async def _scratch(folder: Path) -> AsyncIterator[Path]:
    """A file name in a folder of its own, both gone afterwards; what a killed run left behind goes first."""

    def made() -> str:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{FOLDER_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        return tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=folder)

    place = await trio.to_thread.run_sync(made)
    try:
        yield Path(place) / "model.gguf"
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(lambda: shutil.rmtree(place, ignore_errors=True))


def _part(tell: Tell | None, device: Device, *, number: int, count: int) -> Tell | None:
    """One device's progress as progress of all; its name goes before the text where there are several."""
    if tell is None or count == 1:
        return tell
    name = "Processor" if device.kind is DeviceKind.CPU else device.name
    return lambda fraction, text: tell((number + fraction) / count, f"{name}: {text}")


def _billions(parameters: int) -> str:
    return f"{parameters / 1e9:.1f} billion" if parameters >= 1e9 else f"{parameters / 1e6:.0f} million"


def _seconds(wait_s: float) -> str:
    return f"{wait_s:.0f} seconds" if wait_s >= 2 else f"{wait_s:.1f} seconds"


def _quantization(card: ModelCard, path: Path) -> str:
    """Of the variant that has this file name, else of the source."""
    names = {Path(variant.path).name: variant.quantization for variant in card.variants}
    return names.get(path.name, card.source_quantization)
