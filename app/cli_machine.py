"""`starling bench` and `starling models`: through the running engine when there is one, else in this process.

Never runs beside an engine in the same home: the home's lock decides.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import trio

from app.cli import reach, send
from app.cli_text import table
from app.control_client import ControlClient, ControlLinkLost, EngineNotRunning
from app.lockfile import EngineLock, HomeLocked
from assets import asset_path
from core import commands as c
from core import events as e
from core.benchmark import BenchmarkFailed
from core.device import Benchmark
from core.home import Home
from core.journal import Journal
from core.model_card import ModelCard, added_text
from core.model_store import ModelStore, ModelStoreError
from core.preparation import CannotServe, Preparation
from core.settings import Settings
from core.store import Store, StoreError
from core.trouble import trouble_of

DEMO_MODEL = "starling-demo"
KNOWN = (HomeLocked, ModelStoreError, StoreError, CannotServe, BenchmarkFailed, ControlLinkLost)


def run_machine_word(arguments: argparse.Namespace, home: Home) -> int:
    """One word; 0 when it was done."""
    try:
        if arguments.word == "models" and arguments.deed == "list":
            return _list(home, is_json=arguments.json)
        try:
            with reach(home) as client:
                return _through_engine(client, arguments)
        except EngineNotRunning:
            with EngineLock(home):
                return trio.run(_alone, arguments, home)
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the process edge: unknown ones are raised again
        print(trouble_of(error, known=KNOWN), file=sys.stderr)
        return 1


def command_of(arguments: argparse.Namespace) -> c.Command:
    """The command that a word stands for."""
    if arguments.word == "bench":
        return c.MeasureMachine()
    match arguments.deed:
        case "add":
            return c.AddModel(str(arguments.file.absolute()), arguments.name)
        case "remove":
            return c.RemoveModel(arguments.model)
        case _:
            return c.ServeModel(arguments.model)


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
    threading.Thread(target=_follow, args=(client,), daemon=True).start()
    code = send(client, command_of(arguments))
    benchmark = client.snapshot().benchmark
    if code == 0 and arguments.word == "bench" and benchmark is not None:
        _show(benchmark, is_json=arguments.json)
    return code


def _follow(client: ControlClient) -> None:
    """Tell how far the engine is, while this process waits for its reply."""
    progress = _ProgressLine()
    with suppress(EngineNotRunning, ControlLinkLost):
        for state in client.watch():
            if state.progress is not None:
                progress.tell(state.progress.fraction, state.progress.text)


async def _alone(arguments: argparse.Namespace, home: Home) -> int:
    store = Store(home.database)
    try:
        journal = Journal(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell_progress, journal)
            code = await _do(arguments, journal, home=home)
            nursery.cancel_scope.cancel()
        return code
    finally:
        store.close()


async def _do(arguments: argparse.Namespace, journal: Journal, *, home: Home) -> int:
    models = ModelStore(home.models)
    preparation = Preparation(journal, models, prior=asset_path("metamodel/prior.json"), settings=Settings())
    match command_of(arguments):
        case c.AddModel(path=path, name=name):
            known = {card.model for card in models.cards()}
            card = await preparation.add_model(Path(path), name=name)
            print(added_text(card, is_new=card.model not in known), file=sys.stderr)
        case c.RemoveModel(model=model):
            models.remove(model)
            await journal.record(e.ModelRemoved(time.time(), model))
        case c.MeasureMachine():
            if not models.cards():
                await preparation.add_model(asset_path("demo_model/starling-demo-f16.gguf"), name=DEMO_MODEL)
            machine = await preparation.refresh_machine()
            if machine.warning:
                print(machine.warning, file=sys.stderr)
            _show(await preparation.measure(machine, preparation.card("")), is_json=arguments.json)
        case _:
            print(f"No engine runs in {home.folder}. Start it with `starling --model NAME`.", file=sys.stderr)
            return 1
    return 0


async def _tell_progress(journal: Journal) -> None:
    progress = _ProgressLine()
    with journal.watch() as watcher:
        async for numbered in watcher.events:
            if isinstance(numbered.event, e.WorkProgressed) and numbered.event.fraction < 1.0:
                progress.tell(numbered.event.fraction, numbered.event.text)


class _ProgressLine:
    """How far long work is, a line a step."""

    def __init__(self) -> None:
        self._told = ""

    def tell(self, fraction: float, text: str) -> None:
        if text != self._told:
            print(f"{fraction:4.0%}  {text}", file=sys.stderr, flush=True)
        self._told = text


def _show(benchmark: Benchmark, *, is_json: bool) -> None:
    print(json.dumps(msgspec.to_builtins(benchmark, str_keys=True)) if is_json else benchmark_text(benchmark))


def _list(home: Home, *, is_json: bool) -> int:
    cards = ModelStore(home.models).cards() if home.models.exists() else ()
    if is_json:
        print(json.dumps([msgspec.to_builtins(card) for card in cards]))
    elif cards:
        print(table([("MODEL", "TITLE", "PARAMETERS", "ON DISK"), *(_model_row(card) for card in cards)]))
    else:
        print("No models yet. Add one with `starling models add FILE`; the demo model comes with the first start.")
    return 0


def _model_row(card: ModelCard) -> tuple[str, ...]:
    files = ", ".join(f"{v.quantization} {v.file_bytes / 1e6:.0f} MB" for v in card.variants)
    return card.model, card.title, f"{card.parameters / 1e6:.1f} M", files
