"""What the benchmark of lies shows on many machines, on a few."""

from __future__ import annotations

from math import log
from random import Random

from tests.bench.federation import Swarm, multiplied


def test_a_fifth_of_rows_times_ten_changes_no_choice_of_a_dozen_machines() -> None:
    swarm = Swarm(Random(3))
    trials = [swarm.trial() for _ in range(12)]
    assert all(trial.honest == trial.lied for trial in trials)
    assert max(trial.shift for trial in trials) < log(1.05)
    assert any(trial.honest is not None for trial in trials)


def test_a_lie_is_ten_times_the_speed() -> None:
    swarm = Swarm(Random(3))
    hardware = swarm._hardware(*swarm._sheets[0])
    rows = [row for number in range(20) for row in swarm._peer(hardware, number)]
    told = [(heard.row.decode_tokens_per_s, multiplied(heard).row.decode_tokens_per_s) for heard in rows]
    assert told and all(lied == 10 * honest for honest, lied in told)
