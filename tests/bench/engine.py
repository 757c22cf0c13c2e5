"""Our worker against llama.cpp's own server and benchmark of the same commit, and against node-llama-cpp.

One run, one file, the same prompts and the same number of answer tokens; the engines take turns, and what counts is the
median of the ratios of neighbours in time. Ratios over 1 mean that ours is faster.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import trio

from core.device import DeviceKind
from core.worker.messages import Devices, ListDevices, ServingStats
from core.worker.process import run_once
from tests.bench.peers import batched_bench, build, llama_server, node_llama_cpp, our_worker
from tests.bench.report import Report
from tests.bench.synthetic import SHAPES, synthetic_model
from tests.bench.workload import Engine, Run, Setup, Workload, same_length_workload

QUANTIZATION = "Q4_0"
LEVELS = (1, 4, 16)
GPU_LEVELS = (1, 4, 16, 64)
SLOT_CONTEXT = 512
# Nothing else is to run beside this benchmark, so our threads wait for each other as long as llama-server's do.
SPINS = {"GOMP_SPINCOUNT": "300000"}
# The model of the ratios; those of the others carry the model's name.
MAIN_MODEL = "160m"
SHARE_MODEL = "1b"
DEVICES_S = 60.0


class Scale(msgspec.Struct, frozen=True):
    """How much is asked: words of a prompt, answer tokens of a request, requests one after another at level 1, and
    rounds of all engines by level: many short ones, as a shared machine's memory is faster at one time than at another.
    """

    prompt_words: int
    answer_tokens: int
    requests_alone: int
    rounds: dict[int, int]


SCALES = {
    "160m": Scale(prompt_words=96, answer_tokens=96, requests_alone=2, rounds={1: 15, 4: 11, 16: 7}),
    "1b": Scale(prompt_words=96, answer_tokens=64, requests_alone=1, rounds={1: 7, 4: 5, 16: 3}),
    "8b": Scale(prompt_words=96, answer_tokens=128, requests_alone=1, rounds={1: 5, 4: 5, 16: 3, 64: 3}),
}
QUICK = Scale(prompt_words=48, answer_tokens=16, requests_alone=1, rounds={1: 5, 4: 3, 16: 1, 64: 1})


class Level(msgspec.Struct, frozen=True):
    """What was found at one number of concurrent requests: runs by engine, and our child's sums over its runs."""

    runs: dict[str, list[Run]]
    before: ServingStats
    after: ServingStats


class Bench:
    """One comparison: the peers and the settings that all its levels share."""

    def __init__(self, peers: build.Peers, *, is_quick: bool, threads: int, device_id: str) -> None:
        self.notes: dict[str, Any] = {}
        self._peers = peers
        self._is_quick = is_quick
        self._threads = threads
        self._device_id = device_id

    async def measure(self, model: str, concurrency: int) -> Level:
        """Interleaved rounds of all engines at one number of concurrent requests."""
        scale = QUICK if self._is_quick else SCALES[model]
        setup = Setup(
            await synthetic_model(model, QUANTIZATION),
            slots=concurrency,
            slot_context_tokens=SLOT_CONTEXT,
            threads=self._threads,
            gpu_layers=SHAPES[model].layers + 1 if self._device_id else 0,
            device_id=self._device_id,
        )
        async with self._engines(setup) as engines:
            ours = engines[our_worker.NAME]
            assert isinstance(ours, our_worker.OurWorker)
            warm_up = same_length_workload(1, prompt_words=scale.prompt_words, answer_tokens=8, seed=0)
            for engine in engines.values():
                warmed = await engine.run(warm_up)
            peer = batched_bench.BatchedBench(self._peers, setup, prompt_tokens=warmed.prompt_tokens)
            engines[batched_bench.NAME] = peer
            before = await ours.stats()
            runs = await _rounds(engines, setup, scale)
            return Level(runs, before, await ours.stats())

    @asynccontextmanager
    async def _engines(self, setup: Setup) -> AsyncIterator[dict[str, Engine]]:
        async with contextlib.AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            ours = await stack.enter_async_context(our_worker.open_our_worker(setup))
            server = await stack.enter_async_context(
                llama_server.open_llama_server(self._peers, setup, log=folder / "server.log")
            )
            engines: dict[str, Engine] = {our_worker.NAME: ours, llama_server.NAME: server}
            is_same = build.loaded_libraries(ours.pid) == build.loaded_libraries(server.pid)
            self.notes["same_shared_libraries"] = is_same
            try:
                node = await stack.enter_async_context(node_llama_cpp.open_node_engine(setup, log=folder / "node.log"))
                engines[node_llama_cpp.NAME] = node
                told = f"{node_llama_cpp.VERSION}, its own build of llama.cpp {node.release}"
            except RuntimeError as error:
                told = f"left out: {error}"
            self.notes[node_llama_cpp.NAME] = told
            yield engines


def run(*, is_quick: bool, model: str = "", is_gpu: bool = False, threads: int = 0) -> Report:
    """Ratios at 1, 4 and 16 concurrent requests (64 too on a GPU), on the 160M and the 1B model or the one named."""
    names = [model] if model else ["8b"] if is_gpu else [MAIN_MODEL] if is_quick else [MAIN_MODEL, SHARE_MODEL]
    return trio.run(_run, names, is_quick, is_gpu, threads or psutil.cpu_count(logical=False) or 1)


async def _run(models: list[str], is_quick: bool, is_gpu: bool, threads: int) -> Report:
    device_id = await _first_gpu() if is_gpu else ""
    os.environ.update(SPINS)
    peers = build.find_or_build()
    bench = Bench(peers, is_quick=is_quick, threads=threads, device_id=device_id)
    figures: dict[str, float] = {}
    speeds: dict[str, Any] = {}
    for model in models:
        print(f"{model} {QUANTIZATION}, {threads} threads", file=sys.stderr)
        for concurrency in GPU_LEVELS if is_gpu else LEVELS:
            level = await bench.measure(model, concurrency)
            figures |= _figures(model, concurrency, level)
            speeds[f"{model}_{concurrency}"] = _speeds(level)
    notes = {
        "llama.cpp": peers.commit,
        **bench.notes,
        "threads": threads,
        "device": device_id or "CPU",
        "load_1min": round(os.getloadavg()[0], 2),
        "tokens_per_s": speeds,
    }
    return Report(figures, notes)


async def _rounds(engines: dict[str, Engine], setup: Setup, scale: Scale) -> dict[str, list[Run]]:
    """Runs of all engines by name: each round in the opposite order of the one before."""
    runs: dict[str, list[Run]] = {name: [] for name in engines}
    for number in range(1, scale.rounds[setup.slots] + 1):
        workload = _workload(setup, scale, seed=number)
        for name in list(engines) if number % 2 else reversed(engines):
            print(f"\r  {setup.slots} at once, round {number}: {name:<20}", end="", file=sys.stderr, flush=True)
            runs[name].append(await engines[name].run(workload))
    print(file=sys.stderr)
    return runs


def _workload(setup: Setup, scale: Scale, *, seed: int) -> Workload:
    """Prompts for one round."""
    requests = scale.requests_alone if setup.slots == 1 else setup.slots
    return same_length_workload(requests, prompt_words=scale.prompt_words, answer_tokens=scale.answer_tokens, seed=seed)


async def _first_gpu() -> str:
    """llama.cpp's name of the first GPU. Raises RuntimeError when there is none."""
    report = await run_once(ListDevices(), deadline_s=DEVICES_S)
    if isinstance(report, Devices):
        for device in report.devices:
            if device.kind is not DeviceKind.CPU:
                return device.device_id
    raise RuntimeError("llama.cpp finds no GPU on this computer")


def _figures(model: str, concurrency: int, level: Level) -> dict[str, float]:
    ours = level.runs[our_worker.NAME]
    suffix = f"_{concurrency}" if model == MAIN_MODEL else f"_{concurrency}_{model}"
    figures: dict[str, float] = {}
    for name, runs in level.runs.items():
        if runs is ours:
            continue
        short = "batched_bench" if name == batched_bench.NAME else name.replace("-", "_")
        figures[f"vs_{short}{suffix}"] = _ratio(ours, runs, of=lambda run: run.tokens_per_s)
        if all(run.cpu_s for run in runs):
            figures[f"cpu_vs_{short}{suffix}"] = _ratio(ours, runs, of=lambda run: run.tokens_per_cpu_s)
    # what its server costs llama.cpp: one that cost nothing would be at 1, and no engine over the same library beats it
    bare = level.runs[batched_bench.NAME]
    server = level.runs[llama_server.NAME]
    figures[f"llama_server_vs_batched_bench{suffix}"] = _ratio(server, bare, of=lambda run: run.tokens_per_s)
    step_s = level.after.step_s - level.before.step_s
    if step_s > 0:
        decode_s = level.after.decode_s - level.before.decode_s
        ending = f"_{concurrency}" if model == SHARE_MODEL else f"_{concurrency}_{model}"
        figures[f"outside_decode_share{ending}"] = 1 - decode_s / step_s
        figures[f"outside_decode_wall_share{ending}"] = max(0.0, 1 - decode_s / sum(run.wall_s for run in ours))
    return figures


def _speeds(level: Level) -> dict[str, str]:
    """Median tokens a second of each engine, and the middle half of its runs: what the ratios are to be believed by."""
    return {name: _spread([run.tokens_per_s for run in runs]) for name, runs in level.runs.items()}


def _spread(values: list[float]) -> str:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.1f} ({low:.1f}-{high:.1f})"


def _ratio(ours: list[Run], theirs: list[Run], *, of: Callable[[Run], float]) -> float:
    return statistics.median(of(mine) / of(their) for mine, their in zip(ours, theirs, strict=True))
