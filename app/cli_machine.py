"""`starling bench`: through the running engine when there is one, else in this process.

Never runs beside an engine in the same home: the home's lock decides.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import msgspec
import trio

from app.cli import reach, send
from app.cli_progress import ProgressLine, follow_engine, tell_progress
from app.cli_text import table
from app.control_client import ControlClient, ControlLinkLost, EngineNotRunning
from app.lockfile import EngineLock, HomeLocked
from assets import asset_path
from core import commands as c
from core.benchmark import BenchmarkFailed, Measured, benchmark_sentence
from core.device import Benchmark, BenchmarkCell
from core.home import Home
from core.journal import Journal
from core.model_store import ModelStore
from core.model_trouble import ModelStoreError
from core.preparation import CannotServe, Preparation
from core.settings import Settings
from core.store import Store, StoreError
from core.trouble import trouble_of

STOPPED = 130
STOP_S = 10.0
KNOWN = (HomeLocked, ModelStoreError, StoreError, CannotServe, BenchmarkFailed, ControlLinkLost)


def run_machine_word(arguments: argparse.Namespace, home: Home) -> int:
    """One word; 0 when it was done."""
    try:
        try:
            with reach(home) as client:
                return _through_engine(client, arguments)
        except EngineNotRunning:
            with EngineLock(home):
                return trio.run(_alone, arguments, home)
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:  # noqa: BLE001 - the process edge
        if _is_stopped(error):
            print("The benchmark was stopped; nothing was kept.", file=sys.stderr)
            return STOPPED
        print(trouble_of(error, known=KNOWN), file=sys.stderr)
        return 1


def benchmark_text(benchmark: Benchmark) -> str:
    """The figures of one device for people, and what they mean in one sentence."""
    rows = [
        ("Device", f"{benchmark.device.name} ({benchmark.device.backend})"),
        ("Runtime", benchmark.runtime),
        ("Torch", benchmark.torch or "not installed"),
        ("Memory bandwidth", f"{benchmark.memory_bandwidth_gbs:.1f} GB/s"),
        ("Matrix rate", f"{benchmark.matrix_tflops:.3f} TFLOP/s"),
    ]
    if benchmark.copy_gbs:
        rows.append(("Copy to the device", f"{benchmark.copy_gbs:.1f} GB/s"))
    rows += [("Measured with", benchmark.model), *(_cell_row(cell) for cell in benchmark.cells)]
    return f"{table(rows)}\n{benchmark_sentence(benchmark)}"


def _cell_row(cell: BenchmarkCell) -> tuple[str, str]:
    batches = ", ".join(f"{batch}: {speed:.0f}" for batch, speed in cell.decode_by_batch.items())
    speeds = f"reads {cell.prefill_tokens_per_s:.0f}, writes by batch {batches} tokens/s"
    return cell.quantization, f"{speeds}; loads {cell.model_bytes / 1e6:.0f} MB in {cell.load_s:.2f} s"


def _is_stopped(error: BaseException) -> bool:
    """Ctrl-C, by itself or out of a nursery."""
    group = error if isinstance(error, BaseExceptionGroup) else BaseExceptionGroup("", [error])
    return group.subgroup(KeyboardInterrupt) is not None


def _through_engine(client: ControlClient, arguments: argparse.Namespace) -> int:
    """Ctrl-C is for the measuring as much as for this process: the engine would else go on with it."""
    line = ProgressLine()
    follow_engine(client, line)
    try:
        code = send(client, c.MeasureMachine())
    except KeyboardInterrupt:
        client.execute(c.StopModelWork(), timeout_s=STOP_S)
        raise
    finally:
        line.end()
    measured = client.snapshot().measured
    if code == 0 and measured:
        _show(measured, is_json=arguments.json)
    return code


async def _alone(arguments: argparse.Namespace, home: Home) -> int:
    store, line = Store(home.database), ProgressLine()
    try:
        journal = Journal(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_progress, journal, line)
            measured = await _measured(journal, home)
            nursery.cancel_scope.cancel()
    finally:
        line.end()
        store.close()
    for failure in measured.failures:
        print(failure, file=sys.stderr)
    _show(measured.benchmarks, is_json=arguments.json)
    return 0


async def _measured(journal: Journal, home: Home) -> Measured:
    preparation = Preparation(
        journal, ModelStore(home.models), prior=asset_path("metamodel/prior.json"), settings=Settings()
    )
    machine = await preparation.refresh_machine()
    if machine.warning:
        print(machine.warning, file=sys.stderr)
    return await preparation.measure_machine("")


def _show(benchmarks: Sequence[Benchmark], *, is_json: bool) -> None:
    if is_json:
        print(json.dumps([msgspec.to_builtins(benchmark, str_keys=True) for benchmark in benchmarks]))
    else:
        print("\n\n".join(benchmark_text(benchmark) for benchmark in benchmarks))
