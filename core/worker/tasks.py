"""One-shot work of a throw-away child: inspect, quantize, list devices, count a plan's memory, benchmark.

Each answers with Progress and then its result; a failure is raised as a RuntimeFault and answered by the loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from core.worker.messages import (
    BenchmarkDone,
    Devices,
    Inspect,
    Inspected,
    ListDevices,
    MeasureDevice,
    MeasurePlan,
    Progress,
    Quantize,
    Quantized,
    RunBenchmark,
    TryPlan,
    WorkerCommand,
    WorkerReport,
)

Send = Callable[[WorkerReport], None]
PROGRESS_EVERY_S = 0.1


def run_task(command: WorkerCommand, send: Send) -> None:
    """Do it and send its result. Raises RuntimeFault."""
    from core.runtimes import llama_devices, llama_file, load_plan, measurement

    match command:
        case Inspect():
            send(Inspected(llama_file.inspect_file(command)))
        case Quantize():
            send(Quantized(llama_file.quantize_file(command, _progress(send))))
        case ListDevices():
            found = llama_devices.list_devices()
            send(Devices(found, llama_devices.runtime_version(), llama_devices.backend_names()))
        case MeasureDevice():
            send(BenchmarkDone(measurement.measure_device(command, _progress(send))))
        case MeasurePlan():
            send(load_plan.measure_plan(command))
        case TryPlan():
            send(measurement.try_plan(command, _progress(send)))
        case RunBenchmark():
            send(BenchmarkDone(measurement.measure(command, _progress(send))))
        case _:
            raise TypeError(f"{type(command).__name__} is no one-shot command")


def free_bytes() -> int:
    """What the host could still give."""
    return int(psutil.virtual_memory().available)


def _progress(send: Send) -> Callable[[float, str], None]:
    told_at = 0.0

    def tell(fraction: float, text: str) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at >= PROGRESS_EVERY_S or fraction >= 1:
            told_at = now
            send(Progress(fraction, text))

    return tell
