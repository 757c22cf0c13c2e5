"""The laws of the choice's table: no leak, near ties are right, and the service model knows what switches are for."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from tests.bench.choice import LEARNERS, score, table
from tests.bench.choice_cells import METHODS, NONE, Cell, cells_of
from tests.bench.choice_ours import by_service, work_of
from tests.bench.choosers import Chooser, at_random, oracle, picks, single_best
from tests.bench.grid_rows import Model, Run
from tests.bench.grid_workloads import WORKLOADS

FILE = Model("20m", "Q8_0", 20_000_000, 19_000_000, 10, 256, 128, 2000.0, 300.0, 700.0, 12)
TINY = msgspec.structs.replace(FILE, model="60m", file_bytes=60_000_000, prefill=700.0, decode_1=100.0)


def run(workload: str, method: str, model: Model, *, turn: int, wall_s: float) -> Run:
    return Run(
        model=model.model, quantization=model.quantization, workload=workload, method=method, visit=1, turn=turn,
        wall_s=wall_s, cpu_s=wall_s, ttft_s=0.1, ttft_p95_s=0.2, stall_s=0.1, prompt_tokens=5_000, cached_tokens=0,
        answer_tokens=100,
    )  # fmt: skip


def made_up(model: Model, seed: int) -> list[Cell]:
    """Cells whose times are chance, of every workload."""
    rng = np.random.default_rng(seed)
    runs = [
        run(workload, method, model, turn=turn, wall_s=float(rng.uniform(1, 2)))
        for workload in WORKLOADS
        for turn in range(2)
        for method in METHODS
    ]
    return cells_of(runs, [model])


CELLS = [*made_up(FILE, 1), *made_up(TINY, 2)]


def test_what_is_chosen_for_is_never_learned_from() -> None:
    seen: list[tuple[set[str], set[str]]] = []

    def spy(train: Sequence[Cell]) -> Chooser:
        asked: set[str] = set()
        seen.append(({cell.group for cell in train}, asked))

        def choose(cell: Cell) -> np.ndarray:
            asked.add(cell.group)
            return picks(cell.features[: len(METHODS)])

        return choose

    table(CELLS, {"single best": single_best, "spy": spy}, key=lambda cell: cell.group)
    assert len(seen) == 2
    assert all(asked and not asked & learned for learned, asked in seen)


def test_the_oracle_regrets_nothing_and_nobody_does_better() -> None:
    scores = table(CELLS, LEARNERS, key=lambda cell: cell.group)
    assert (scores["oracle"].accuracy, scores["oracle"].regret) == (1.0, 0.0)
    assert all(s.ratio <= scores["oracle"].ratio + 1e-12 and s.gap <= 1 + 1e-12 for s in scores.values())


def test_a_near_tie_is_right_and_a_loss_is_not() -> None:
    gains = np.zeros(len(METHODS))
    gains[1], gains[2], gains[3] = 0.5, 0.485, 0.47
    cell = msgspec.structs.replace(CELLS[0], gain=gains)
    assert [score([cell], [picks(np.eye(len(METHODS))[k])]).accuracy for k in (1, 2, 3)] == [1.0, 1.0, 0.0]


def test_chance_is_right_as_often_as_methods_are_right() -> None:
    gains = np.array([0.0, 1.0, 0.0, 0.0, 1.0])
    cell = msgspec.structs.replace(CELLS[0], gain=gains)
    assert score([cell], [at_random([])(cell)]).accuracy == pytest.approx(0.4)
    assert score([cell], [oracle([])(cell)]).accuracy == 1.0


def test_every_way_to_choose_is_the_same_in_every_run() -> None:
    few = [cell for cell in CELLS if cell.workload in ("stream", "chat", "turns", "documents")]
    again = [table(few, LEARNERS, key=lambda cell: cell.group) for _ in range(2)]
    assert again[0] == again[1]


def test_a_turn_that_is_slow_for_all_methods_changes_no_gain() -> None:
    slow, quick = 3.0, 1.0
    runs = [
        run("chat", method, FILE, turn=turn, wall_s=pace * (1.0 if method == "none" else 0.5))
        for turn, pace in enumerate((slow, quick))
        for method in METHODS
    ]
    cell = cells_of(runs, [FILE])[0]
    assert cell.gain[NONE] == 0
    assert np.delete(cell.gain, NONE) == pytest.approx(np.log(2))
    assert np.delete(cell.halves[0], NONE) == pytest.approx(np.log(2))


def test_the_service_model_finds_again_what_takes_as_long_as_its_work() -> None:
    seconds = [np.array(work_of(cell)).sum(axis=1) for cell in CELLS]
    pairs = zip(CELLS, seconds, strict=True)
    cells = [msgspec.structs.replace(cell, seconds=s, gain=np.log(s[NONE] / s)) for cell, s in pairs]
    scores = table(cells, {"single best": single_best, "service": by_service}, key=lambda cell: cell.workload)
    assert scores["service"].accuracy == 1.0 > scores["single best"].accuracy
    chat = next(cell for cell in cells if cell.workload == "chat")
    assert METHODS[chat.best] in ("prefix caching", "all")
