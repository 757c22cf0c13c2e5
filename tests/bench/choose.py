"""How long choosing takes: 500 candidates once everything is open, the first choice, and opening; in milliseconds.

No engine and no model runs: a card, a described machine and a benchmark of it are all that a choice needs.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from core.device import Benchmark, Machine
from core.memory import FailedLoad, MeasuredLoad, MemoryRecord, device_key, shape_of
from core.metamodel.described import described
from core.metamodel.fit import Fit
from core.metamodel.goal import Goal, JobMix, Limits
from core.metamodel.meta_model import MetaModel
from core.metamodel.shapes import shape_card
from core.plan import Choice, Plan
from tests.bench.report import Report

ASSETS = Path(__file__).parents[2] / "assets" / "metamodel"
WANTED = 500
MOST_MS = 50.0
FULL, QUICK = 31, 9
_IMPORTS = "import sys, app.node, app.headless; sys.exit('lightgbm' in sys.modules)"


def run(*, is_quick: bool) -> Report:
    """The figures; the failure says when 500 candidates take longer than was promised."""
    times = QUICK if is_quick else FULL
    mix = JobMix(prompt_tokens=4000, shared_prefix_tokens=400, foretold=0.5, concurrent=8)
    machine, goal = _machine(), Goal(mix=mix, limits=Limits(slot_context_tokens=8192))
    card = shape_card("8b")
    began = time.perf_counter()
    model = MetaModel.open(ASSETS / "prior.json", fit=Fit(_record(machine)))
    opened = time.perf_counter()
    own = _benchmark(machine)

    def choose() -> None:
        chosen = model.choose(card, machine, benchmark=own, goal=goal)
        assert isinstance(chosen, Choice)

    choose()
    first = time.perf_counter()
    count = len(model.estimates(card, machine, benchmark=own, goal=goal))
    each = _median_ms(choose, times) * WANTED / count
    figures = {
        "choose_500_ms": each,
        "choose_500_worst_ms": max(_times_ms(choose, times)) * WANTED / count,
        "open_ms": 1000 * (opened - began),
        "first_choice_ms": 1000 * (first - opened),
        "candidates": float(count),
        "start_imports_lightgbm": float(_imports_lightgbm()),
    }
    failure = f"Choosing among 500 took {each:.0f} ms, not under {MOST_MS:.0f}." if each >= MOST_MS else ""
    return Report(figures, failure=failure)


def _machine() -> Machine:
    return described((ASSETS / "devices" / "gpu-24gb.json").read_bytes()).machine


def _benchmark(machine: Machine) -> Benchmark:
    device = machine.devices[0]
    return Benchmark(
        0.0, device, machine.runtime, 900.0, 120.0, "shape-8b", "Q4_K_M", 4_900_000_000, 6000.0, 120.0,
        {1: 120.0, 4: 380.0, 8: 620.0},
    )  # fmt: skip


def _record(machine: Machine) -> MemoryRecord:
    """As full as it gets: 256 loads and failures, none of this model's, all to be looked through."""
    key = device_key(machine.devices[0])
    plan = Plan("other", "llama.cpp", "Q4_K_M", slots=4, slot_context_tokens=2048)
    shapes = [shape_of(msgspec.structs.replace(plan, slot_context_tokens=256 * n)) for n in range(1, 257)]
    loads = tuple(MeasuredLoad(key, f"other-{n}", shape, 1 << 30, 1 << 30) for n, shape in enumerate(shapes))
    failures = tuple(FailedLoad(key, (40 + n) << 30, 1 << 30) for n in range(256))
    return MemoryRecord(failures, loads)


def _times_ms(act: Callable[[], None], times: int) -> list[float]:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        found.append(1000 * (time.perf_counter() - began))
    return found


def _median_ms(act: Callable[[], None], times: int) -> float:
    return statistics.median(_times_ms(act, times))


def _imports_lightgbm() -> bool:
    """Whether building the engine and the command line brings it in, in a fresh process."""
    return subprocess.run([sys.executable, "-c", _IMPORTS], timeout=120, check=False).returncode != 0
