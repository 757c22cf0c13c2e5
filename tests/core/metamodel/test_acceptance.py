"""Laws of new priors: only one that wins on what nobody was trained on is taken."""

from __future__ import annotations

from math import exp
from pathlib import Path

import msgspec
import pytest

from core.device import DeviceKind
from core.job import PeerId
from core.metamodel.acceptance import Errors, Verdict, is_frozen, judge
from core.metamodel.federation import Heard, SharedRow, decode_case_of
from core.metamodel.figures import Figure, read_figures, read_hardware
from core.metamodel.predictor import Phase, Predictor, Prior, open_prior
from core.metamodel.refit import peer_figures, refit
from core.metamodel.roofline import Constants

ASSETS = Path(__file__).parents[3] / "assets" / "metamodel"
ROW = SharedRow(
    "cuda", DeviceKind.GPU, 8.0, 410.0, 42.0, "llama.cpp", "Q4_K_M", "F16", 7.2e9, 32.0, 4100.0, 2000.0, 4.4e9, 1.0,
    510.0, 1.0, 610.0, 520.0, 0.0, 67.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def figures() -> list[Figure]:
    return read_figures(ASSETS / "figures.csv", read_hardware(ASSETS / "hardware.csv"))


@pytest.fixture(scope="module")
def prior() -> Prior:
    return open_prior(ASSETS / "prior.json")


def told(speed: float, count: int) -> list[Heard]:
    row = msgspec.structs.replace(ROW, decode_tokens_per_s=speed)
    return [Heard(PeerId(f"p{number}"), row) for number in range(count)]


def test_a_win_is_no_loss_in_one_phase_and_a_gain_in_the_other() -> None:
    known = Errors(0.2, 0.2)
    assert Verdict(known, Errors(0.19, 0.2)).is_better
    assert not Verdict(known, known).is_better and Verdict(known, known).is_no_worse
    assert not Verdict(known, Errors(0.1, 0.21)).is_better
    assert not Verdict(known, Errors(0.1, 0.21)).is_no_worse


def test_about_a_fifth_of_the_devices_is_frozen(figures: list[Figure]) -> None:
    devices = {figure.device for figure in figures}
    assert 0.1 < sum(map(is_frozen, devices)) / len(devices) < 0.3


def test_the_landed_prior_beats_a_bad_one_and_is_not_beaten_by_it(figures: list[Figure], prior: Prior) -> None:
    frozen = [figure for figure in figures if is_frozen(figure.device)]
    slow = {name: Constants(bandwidth_share=0.1, matrix_share=0.02) for name in prior.constants}
    bad = Prior(constants=slow)
    assert judge(bad, prior, frozen=frozen).is_better
    assert not judge(prior, bad, frozen=frozen).is_better


def test_what_peers_agree_on_is_one_figure_a_cell(prior: Prior) -> None:
    said = Predictor(prior).predict(Phase.DECODE, [decode_case_of(ROW)])[0].tokens_per_s
    honest = told(min(80.0, said * exp(0.2)), 40)
    (figure,) = peer_figures(honest, prior)
    assert figure.phase is Phase.DECODE and figure.source == "peers" and figure.weight < 1
    liars = [Heard(PeerId(f"liar{n}"), msgspec.structs.replace(ROW, decode_tokens_per_s=800.0)) for n in range(8)]
    (again,) = peer_figures([*honest, *liars], prior)
    assert abs(again.tokens_per_s / figure.tokens_per_s - 1) < 0.05


def test_few_peers_make_no_figures(prior: Prior) -> None:
    assert peer_figures(told(67.0, 3), prior) == []


def test_nothing_heard_is_no_new_prior(figures: list[Figure], prior: Prior) -> None:
    assert refit(prior, figures[::8], heard=()) is None


def test_lies_of_everybody_make_no_new_prior(figures: list[Figure], prior: Prior) -> None:
    """Where all peers lie, agreement does not help: the frozen set does."""
    large = msgspec.structs.replace(ROW, bandwidth_gbs=1000.0, matrix_tflops=100.0)
    formats = (("Q4_K_M", 4.4e9), ("Q8_0", 7.7e9), ("F16", 1.4e10))
    asked = [msgspec.structs.replace(large, quantization=name, file_bytes=size) for name, size in formats]
    said = Predictor(prior).predict(Phase.DECODE, [decode_case_of(row) for row in asked])
    rows = [
        msgspec.structs.replace(row, decode_tokens_per_s=0.5 * guess.tokens_per_s)
        for row, guess in zip(asked, said, strict=True)
    ]
    heard = [Heard(PeerId(f"p{number}"), row) for number in range(60) for row in rows]
    assert len(peer_figures(heard, prior)) == len(formats)
    assert refit(prior, figures[::4], heard=heard) is None
