"""Measure this machine with a model file, in a throw-away child; the figures are what the meta-model starts from.

Never measures in this process, and never runs beside a serving worker: its owner sees to that.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core.device import Benchmark, Machine
from core.model_card import ModelCard
from core.probe import serving_threads
from core.worker.messages import BenchmarkDone, Fault, RunBenchmark
from core.worker.process import run_once

DEADLINE_S = 300.0


class BenchmarkFailed(Exception):
    """The machine could not be measured; the message says why."""


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
    report = await run_once(command, deadline_s=DEADLINE_S, on_progress=on_progress)
    match report:
        case BenchmarkDone(benchmark=benchmark):
            return benchmark
        case Fault(message=message):
            raise BenchmarkFailed(f"This computer could not be measured. {message}")
        case _:
            raise BenchmarkFailed("This computer could not be measured.")


def _quantization(card: ModelCard, path: Path) -> str:
    """Of the variant that has this file name, else of the source."""
    names = {Path(variant.path).name: variant.quantization for variant in card.variants}
    return names.get(path.name, card.source_quantization)
