"""`python -m tests.bench.grid [--minutes N]`: measure the grid of models, quantizations, workloads and switches.

Five real workers, one for each method, take turns on the same questions; each finished cell is written at once and
never measured again, so the command can be stopped and started. Never runs two workers at the same time.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import psutil
import trio

from core.device import Device, DeviceKind
from core.metamodel.timetable import Clients
from core.probe import find_machine, serving_threads
from core.worker.process import Limits, open_worker
from tests.bench import grid_rows
from tests.bench.clients import Voice, clients_of
from tests.bench.grid_workloads import DEMO, MODELS, PROBES, SLOT_CONTEXT, WORDS_PER_TOKEN, WORKLOADS
from tests.bench.peers.streams import LIMIT_S, Answer, Streams, load
from tests.bench.switches import CHUNK, SLOTS, SWITCHES, plan_of, seen
from tests.bench.synthetic import SHAPES, Shape, demo_model, synthetic_model

# A cell is measured for about so long, in so many turns of all methods at most and at least.
CELL_S = 9.0
TURNS = (2, 24)
# A file's own speeds are measured in this worker, each for about so long.
PROBED = "continuous batching"
PROBE_S = 1.5
PROBE_RUNS = 20
# clock_getcpuclockid(3): the complement of the process id, and which of its clocks.
PROCESS_CLOCK = 2
WARM_UP = (Clients(2, 40, 4, rounds=1),)
DEMO_SHAPE = Shape(hidden=256, feed_forward=512, layers=3, heads=4, kv_heads=2, vocabulary=2048, context=1024)


class Cell(msgspec.Struct, frozen=True):
    """One workload on one file, for the how-manieth time."""

    model: str
    quantization: str
    workload: str
    visit: int


class Method:
    """One loaded worker with its switches, and its clients."""

    def __init__(self, name: str, streams: Streams, *, pid: int) -> None:
        self.name = name
        self._streams = streams
        self._pid = pid

    async def run(self, cell: Cell, *, turn: int) -> grid_rows.Run:
        """Serve the workload once. Raises RuntimeError."""
        voice = _voice(cell, turn)
        cpu_began = self._cpu_s()
        answers = await self._streams.serve(clients_of(WORKLOADS[cell.workload], voice))
        return _row(cell, answers, method=self.name, turn=turn, cpu_s=self._cpu_s() - cpu_began)

    async def speed(self, model: str, probe: str) -> float:
        """Tokens for a second of the processor, the best of several runs."""
        clients, tokens = PROBES[probe]
        best, began = 0.0, time.monotonic()
        for number in range(PROBE_RUNS):
            cpu_began = self._cpu_s()
            voice = Voice(10_000 + number, WORDS_PER_TOKEN.get(model, 1.0))
            await self._streams.serve(clients_of(clients, voice))
            best = max(best, tokens / (self._cpu_s() - cpu_began))
            if number and time.monotonic() - began > PROBE_S:
                break
        return best

    async def template_tokens(self, model: str) -> int:
        """Tokens of a prompt that its workload does not name."""
        answers = await self._streams.serve(clients_of(WARM_UP, Voice(9_998, WORDS_PER_TOKEN.get(model, 1.0))))
        return round(answers[0].prompt_tokens - WARM_UP[0].prompt_tokens)

    async def warm_up(self, model: str) -> None:
        """Serve a little that does not count."""
        await self._streams.serve(clients_of(WARM_UP, Voice(9_999, WORDS_PER_TOKEN.get(model, 1.0))))

    def _cpu_s(self) -> float:
        """Of all threads of the worker. Linux has a clock for each process, finer than the ticks that others tell."""
        try:
            return time.clock_gettime(~self._pid << 3 | PROCESS_CLOCK)
        except (AttributeError, OSError):
            times = psutil.Process(self._pid).cpu_times()
            return float(times.user + times.system)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.grid", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after the cell that is under way then")
    parser.add_argument("--passes", type=int, default=1, help="how often every cell is to be measured in all")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--folder", type=Path, default=grid_rows.GRID.parent, help="where the tables are")
    asked = parser.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    wanted = [c for c in _cells(asked.passes) if c.model in asked.models and c.workload in asked.workloads]
    try:
        left = trio.run(_measure, wanted, asked.folder, end)
    except KeyboardInterrupt:
        print("\nStopped. What was measured is kept; the same command goes on from there.", file=sys.stderr)
        return 130
    print(f"{left} cells left." if left else "The grid is complete.", file=sys.stderr)
    return 0


def _cells(passes: int) -> Iterator[Cell]:
    for visit in range(1, passes + 1):
        for model, quantizations in MODELS.items():
            for quantization, workload in itertools.product(quantizations, WORKLOADS):
                yield Cell(model, quantization, workload, visit)


async def _measure(wanted: list[Cell], folder: Path, end: float) -> int:
    """Measure what is not in the tables yet, until it is time; how many cells are left."""
    table, speeds = folder / grid_rows.GRID.name, folder / grid_rows.MODELS.name
    done = {(r.model, r.quantization, r.workload, r.visit) for r in grid_rows.read(table, grid_rows.Run)}
    missing = [c for c in wanted if (c.model, c.quantization, c.workload, c.visit) not in done]
    count = len(missing)
    machine = await find_machine()
    device = next(d for d in machine.devices if d.kind is DeviceKind.CPU)
    threads = serving_threads(machine.cpu_cores)
    about = _about(device, cores=machine.cpu_cores, threads=threads)
    for (model, quantization, _), group in itertools.groupby(missing, lambda c: (c.model, c.quantization, c.visit)):
        if time.monotonic() > end:
            break
        path = await _file(model, quantization)
        async with _methods(path, threads) as methods:
            for method in methods:
                await method.warm_up(model)
            await _keep_speeds(speeds, methods, model=model, quantization=quantization, path=path)
            for cell in group:
                if time.monotonic() > end:
                    break
                _tell(cell, left=count)
                grid_rows.append(table, await _turns(methods, cell), about=about)
                count -= 1
    print(file=sys.stderr)
    return count


async def _turns(methods: list[Method], cell: Cell) -> list[grid_rows.Run]:
    """All methods, again and again, each time in another order."""
    rows: list[grid_rows.Run] = []
    began = time.monotonic()
    for turn in range(TURNS[1]):
        took = time.monotonic() - began
        if turn >= TURNS[0] and took * (turn + 1) / turn > CELL_S:
            break
        first = (turn * 2) % len(methods)
        for method in (*methods[first:], *methods[:first]):
            rows.append(await method.run(cell, turn=turn))
    return rows


@asynccontextmanager
async def _methods(path: Path, threads: int) -> AsyncIterator[list[Method]]:
    async with AsyncExitStack() as stack:
        methods = []
        for name, switches in SWITCHES.items():
            worker = await stack.enter_async_context(open_worker(limits=Limits(hang_s=LIMIT_S)))
            await load(worker, plan_of(switches, threads=threads, context_tokens=SLOT_CONTEXT), str(path))
            methods.append(Method(name, Streams(worker), pid=worker.pid))
        yield methods


def _voice(cell: Cell, turn: int) -> Voice:
    """The same words for every method of a turn; never those of another turn or cell."""
    number = list(WORKLOADS).index(cell.workload)
    seed = (cell.visit * len(WORKLOADS) + number) * TURNS[1] + turn
    return Voice(seed, WORDS_PER_TOKEN.get(cell.model, 1.0))


def _row(cell: Cell, answers: list[Answer], *, method: str, turn: int, cpu_s: float) -> grid_rows.Run:
    what = seen(answers)
    return grid_rows.Run(
        model=cell.model,
        quantization=cell.quantization,
        workload=cell.workload,
        method=method,
        visit=cell.visit,
        turn=turn,
        wall_s=max(a.ended_at for a in answers) - min(a.began_at for a in answers),
        cpu_s=cpu_s,
        ttft_s=what.ttft_median_s,
        ttft_p95_s=what.ttft_p95_s,
        stall_s=what.worst_stall_s,
        prompt_tokens=sum(a.prompt_tokens for a in answers),
        cached_tokens=sum(a.cached_tokens for a in answers),
        answer_tokens=sum(a.tokens for a in answers),
    )


async def _file(model: str, quantization: str) -> Path:
    return await (demo_model(quantization) if model == DEMO else synthetic_model(model, quantization))


async def _keep_speeds(table: Path, methods: list[Method], *, model: str, quantization: str, path: Path) -> None:
    """How fast this file is by itself in the worker, unless that is known: what is known before a choice."""
    if any((m.model, m.quantization) == (model, quantization) for m in grid_rows.read(table, grid_rows.Model)):
        return
    worker = next(method for method in methods if method.name == PROBED)
    shape = DEMO_SHAPE if model == DEMO else SHAPES[model]
    row = grid_rows.Model(
        model=model,
        quantization=quantization,
        file_bytes=path.stat().st_size,
        parameters=shape.parameters,
        layers=shape.layers,
        hidden=shape.hidden,
        kv_width=shape.kv_width,
        **{name: await worker.speed(model, name) for name in PROBES},
        template_tokens=await worker.template_tokens(model),
    )
    grid_rows.append(table, [row], about="Each file's own speeds in the worker, measured by python -m tests.bench.grid")


def _about(device: Device, *, cores: int, threads: int) -> str:
    return (
        "Measured by python -m tests.bench.grid: llama.cpp in our worker, switches of core/plan.py\n"
        f"Machine: {cores} cores of {device.name}, no GPU used, {threads} thread{'s' * (threads > 1)} computing;"
        f" {SLOTS} slots of {SLOT_CONTEXT} tokens, chunks of {CHUNK}"
    )


def _tell(cell: Cell, *, left: int) -> None:
    line = f"{left} cells left: {cell.model} {cell.quantization}, {cell.workload}"
    print(f"\r{line:<72}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
