"""Without LightGBM the formula chooses alone, and the reason of the choice says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from core.metamodel.described import described
from core.metamodel.goal import Goal
from core.metamodel.meta_model import MetaModel
from core.metamodel.outlook import Question, outlook
from core.metamodel.shapes import shape_card
from core.plan import Choice

ASSETS = Path(__file__).parents[3] / "assets" / "metamodel"


def chosen() -> Choice:
    machine = described((ASSETS / "devices" / "gpu-8gb.json").read_bytes()).machine
    model = MetaModel.open(ASSETS / "prior.json")
    told = outlook(model, Question(shape_card("8b"), machine, Goal())).choice
    found = model.choose(shape_card("8b"), machine, benchmark=None, goal=Goal())
    assert isinstance(found, Choice) and isinstance(told, Choice) and told.reason == found.reason
    return found


def test_a_missing_library_leaves_a_choice_that_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = chosen()
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    plain = chosen()
    assert plain.plan.gpu_layers == whole.plan.gpu_layers
    assert plain.reason.count("LightGBM") == 1 and "LightGBM" not in whole.reason
    assert plain.estimate.decode_low_tokens_per_s < plain.estimate.decode_tokens_per_s
