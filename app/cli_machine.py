"""`starling bench`: through the running engine when there is one, else in this process.

Never runs beside an engine in the same home: the home's lock decides.
"""

from __future__ import annotations

import argparse
import json
import sys

import msgspec
import trio

from app.cli import reach, send
from app.cli_progress import ProgressLine, follow_engine, tell_progress
from app.cli_text import table
from app.control_client import ControlClient, ControlLinkLost, EngineNotRunning
from app.lockfile import EngineLock, HomeLocked
from assets import asset_path
from core import commands as c
from core.benchmark import BenchmarkFailed
from core.device import Benchmark
from core.home import Home
from core.journal import Journal
from core.model_store import ModelStore
from core.model_trouble import ModelStoreError
from core.model_work import ModelWork
from core.preparation import CannotServe, Preparation
from core.settings import Settings
from core.store import Store, StoreError
from core.trouble import trouble_of

DEMO_MODEL = "starling-demo"
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
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the process edge: unknown ones are raised again
        print(trouble_of(error, known=KNOWN), file=sys.stderr)
        return 1


def benchmark_text(benchmark: Benchmark) -> str:
    """The figures for people, and what they mean in one sentence."""
    batches = ", ".join(f"{batch}: {speed:.0f}" for batch, speed in benchmark.decode_by_batch.items())
    rows = [
        ("Device", f"{benchmark.device.name} ({benchmark.device.backend})"),
        ("Runtime", benchmark.runtime),
        ("Torch", benchmark.torch or "not installed"),
        ("Memory bandwidth", f"{benchmark.memory_bandwidth_gbs:.1f} GB/s"),
        ("Matrix rate", f"{benchmark.matrix_tflops:.3f} TFLOP/s"),
        ("Prefill", f"{benchmark.prefill_tokens_per_s:.0f} tokens/s"),
        ("Decode", f"{benchmark.decode_tokens_per_s:.0f} tokens/s ({batches})"),
        ("Measured with", f"{benchmark.model} {benchmark.quantization}"),
    ]
    speeds = f"reads {benchmark.prefill_tokens_per_s:.0f}, writes {benchmark.decode_tokens_per_s:.0f} tokens a second"
    return f"{table(rows)}\nThis computer {speeds} with {benchmark.model}."


def _through_engine(client: ControlClient, arguments: argparse.Namespace) -> int:
    line = ProgressLine()
    follow_engine(client, line)
    code = send(client, c.MeasureMachine())
    line.end()
    benchmark = client.snapshot().benchmark
    if code == 0 and benchmark is not None:
        _show(benchmark, is_json=arguments.json)
    return code


async def _alone(arguments: argparse.Namespace, home: Home) -> int:
    store, line = Store(home.database), ProgressLine()
    try:
        journal = Journal(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_progress, journal, line)
            benchmark = await _measured(journal, home)
            nursery.cancel_scope.cancel()
    finally:
        line.end()
        store.close()
    _show(benchmark, is_json=arguments.json)
    return 0


async def _measured(journal: Journal, home: Home) -> Benchmark:
    models = ModelStore(home.models)
    preparation = Preparation(journal, models, prior=asset_path("metamodel/prior.json"), settings=Settings())
    if not models.cards():
        demo = str(asset_path("demo_model/starling-demo-f16.gguf"))
        await ModelWork(journal, models).execute(c.AddModel(demo, DEMO_MODEL))
    machine = await preparation.refresh_machine()
    if machine.warning:
        print(machine.warning, file=sys.stderr)
    return await preparation.measure(machine, preparation.card(""))


def _show(benchmark: Benchmark, *, is_json: bool) -> None:
    print(json.dumps(msgspec.to_builtins(benchmark, str_keys=True)) if is_json else benchmark_text(benchmark))
