"""The law of response times: what is told of them breaks a limit exactly where the choice says that it does."""

from __future__ import annotations

from pathlib import Path

from core.metamodel.choice import Verdict
from core.metamodel.described import described
from core.metamodel.goal import Goal
from core.metamodel.meta_model import MetaModel
from core.metamodel.outlook import Question, outlook
from core.metamodel.response_times import response_times
from core.metamodel.shapes import shape_card

ASSETS = Path(__file__).parents[3] / "assets" / "metamodel"


def test_what_is_told_is_too_slow_where_the_choice_says_so() -> None:
    goal, limits = Goal(), Goal().limits
    machine = described((ASSETS / "devices" / "gpu-8gb.json").read_bytes()).machine
    found = outlook(MetaModel.open(ASSETS / "prior.json"), Question(shape_card("8b"), machine, goal))
    rows = [row for row in found.ranked if row.verdict in (Verdict.GOOD, Verdict.SLOW)]
    assert {row.verdict for row in rows} == {Verdict.GOOD, Verdict.SLOW}
    for row in rows:
        times = response_times(row.plan, row.estimate, mix=goal.mix)
        is_slow = times.first_s > limits.ttft_s or times.pause_s > limits.tpot_s
        assert is_slow is (row.verdict is Verdict.SLOW)
