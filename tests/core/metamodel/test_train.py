"""The laws of training: the same figures give the same bytes."""

from __future__ import annotations

from pathlib import Path

import msgspec

from core.metamodel.figures import read_figures, read_hardware
from core.metamodel.train import train

ASSETS = Path(__file__).parents[3] / "assets" / "metamodel"


def test_training_twice_gives_the_same_bytes() -> None:
    hardware = read_hardware(ASSETS / "hardware.csv")
    few = read_figures(ASSETS / "figures.csv", hardware)[::12]
    assert msgspec.json.encode(train(few, hardware)) == msgspec.json.encode(train(few, hardware))
