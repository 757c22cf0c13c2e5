"""The grid's rows as cells to choose in: how much each method speeds each one up, and what is known beforehand.

Never shows a chooser what was measured of a cell beside the length of its prompts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.metamodel.timetable import Switches, Timetable, Workload, timetable
from tests.bench.grid_rows import Model, Run
from tests.bench.grid_workloads import DEMO, SLOT_CONTEXT, WORKLOADS
from tests.bench.switches import CHUNK, SLOTS, SWITCHES

METHODS = tuple(SWITCHES)
NONE = METHODS.index("none")
# Tokens of the template that every prompt begins with.
HEAD_TOKENS = {DEMO: 19}
SYNTHETIC_HEAD_TOKENS = 14

FILE_FEATURES = 8
# Others on the machine only ever make a run slower: a method's speed is that of its fastest tenth.
FASTEST = 0.1

Vector = NDArray[np.float64]


class Cell(msgspec.Struct, frozen=True, eq=False):
    """One workload on one model file. seconds: by method, in its fastest turns; gain: log of how many times faster than
    `none`; halves: the gains by every second turn, and by the others.

    ttft and stall: the median wait for a first text and the longest silence, in seconds. features and tables are what
    is known before: of the file, its own speeds and the workload.
    """

    model: Model
    workload: str
    seconds: Vector
    gain: Vector
    halves: tuple[Vector, Vector]
    ttft: Vector
    stall: Vector
    features: Vector
    tables: tuple[Timetable, ...]

    @property
    def group(self) -> str:
        """Model and quantization."""
        return f"{self.model.model} {self.model.quantization}"

    @property
    def best(self) -> int:
        """The oracle's method."""
        return int(np.argmax(self.gain))


def cells_of(runs: Iterable[Run], models: Iterable[Model], *, figure: str = "cpu_s") -> list[Cell]:
    """One for each model file and workload that all methods were measured on, in the order of the rows."""
    files = {(m.model, m.quantization): m for m in models}
    grouped: defaultdict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        grouped[run.model, run.quantization, run.workload].append(run)
    return [
        _cell(files[model, quantization], workload, rows, figure=figure)
        for (model, quantization, workload), rows in grouped.items()
        if (model, quantization) in files and workload in WORKLOADS
    ]


def _cell(model: Model, workload: str, rows: list[Run], *, figure: str) -> Cell:
    turns: dict[tuple[int, int], dict[str, Run]] = defaultdict(dict)
    for row in rows:
        turns[row.visit, row.turn][row.method] = row
    whole = [turn for turn in turns.values() if set(METHODS) <= set(turn)]
    seconds = _figures(whole, figure)
    asked = _as_measured(WORKLOADS[workload], model, whole[0][METHODS[NONE]])
    tables = tuple(timetable(asked, _switches(*bits)) for bits in SWITCHES.values())
    return Cell(
        model=model,
        workload=workload,
        seconds=_fastest(seconds),
        gain=_gains(seconds),
        halves=(_gains(seconds[::2]), _gains(seconds[1::2])),
        ttft=np.median(_figures(whole, "ttft_s"), axis=0),
        stall=np.median(_figures(whole, "stall_s"), axis=0),
        features=np.array([*_of_model(model), *_of_workload(asked)]),
        tables=tables,
    )


def _gains(seconds: Vector) -> Vector:
    fastest = _fastest(seconds)
    return np.asarray(np.log(fastest[NONE] / fastest))


def _fastest(seconds: Vector) -> Vector:
    """By method."""
    return np.asarray(np.quantile(seconds, FASTEST, axis=0))


def _figures(turns: list[dict[str, Run]], name: str) -> Vector:
    return np.array([[getattr(turn[method], name) for method in METHODS] for turn in turns])


def _switches(prefix_cache: bool, chunked: bool, continuous: bool) -> Switches:
    return Switches(SLOTS, CHUNK if chunked else 0, prefix_cache, continuous, SLOT_CONTEXT)


def _as_measured(workload: Workload, model: Model, run: Run) -> Workload:
    """With the prompts as long as the model's vocabulary and template made them."""
    said = timetable(workload, _switches(*SWITCHES["none"]))
    planned = said.rows - said.tokens + len(said.asked)
    messages = sum(c.count * (c.rounds * (c.rounds + 1) / 2 if c.keeps else c.rounds) for c in workload)
    head = HEAD_TOKENS.get(model.model, SYNTHETIC_HEAD_TOKENS)
    more = max(0.0, run.prompt_tokens - planned - head * len(said.asked)) / messages
    return tuple(
        msgspec.structs.replace(
            c, prompt_tokens=c.prompt_tokens + head + more, shared_tokens=c.shared_tokens + head, known_answers=1.0
        )
        for c in workload
    )


def _of_model(m: Model) -> list[float]:
    bits = 8 * m.file_bytes / m.parameters
    cache = m.kv_width * m.layers
    speeds = [np.log(m.prefill), np.log(m.decode_1), np.log(m.prefill / m.decode_1)]
    return [np.log(m.parameters), bits, m.layers, np.log(cache), *speeds, m.decode_4 / m.decode_1]


def _of_workload(workload: Workload) -> list[float]:
    """Means over jobs: prompt, answer, what is shared, how uneven; how many ask at once, and how long it goes on."""
    jobs = np.array([c.count * c.rounds for c in workload], float)
    prompts = np.array([c.prompt_tokens for c in workload])
    answers = np.array([c.output_tokens for c in workload])
    shared = np.array([c.shared_tokens for c in workload])
    share = jobs / jobs.sum()
    said = [(c, r) for c in workload for r in range(c.rounds)]
    longest = max(c.prompt_tokens + (r * (c.prompt_tokens + c.output_tokens) if c.keeps else 0) for c, r in said)
    uneven = answers**2 * (1 + np.array([c.spread for c in workload]) ** 2 / 3)
    spread = np.sqrt(max(0.0, share @ uneven - (share @ answers) ** 2))
    clients = sum(c.count for c in workload)
    return [
        np.log(share @ prompts), np.log(share @ answers), np.log((share @ prompts) / (share @ answers)),
        (share @ shared) / (share @ prompts), float(spread / (share @ answers)), float(clients), clients / SLOTS,
        np.log(longest), float(any(c.keeps for c in workload)), float(jobs.sum()), float(len(workload)),
    ]  # fmt: skip
