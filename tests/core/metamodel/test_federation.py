"""Laws of what peers tell each other: nothing names anyone, what cannot be has no vote, a minority moves little."""

from __future__ import annotations

from math import exp, inf, log
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.device import Device, DeviceKind, ModelShape
from core.job import PeerId
from core.metamodel.features import Rates
from core.metamodel.federation import (
    INFLUENCE,
    MIN_VOTES,
    SharedRow,
    Vote,
    agreed,
    centre,
    decode_case_of,
    is_alike,
    is_possible,
    prefill_case_of,
    rounded,
    row_fault,
    shared_row,
)
from core.plan import Plan
from core.speed_record import MeasuredRun, Place, SpeedCell

GIB = 1 << 30
GPU = Device("CUDA0", "RTX of Jane", DeviceKind.GPU, "CUDA", 8 * GIB, 7 * GIB, pci_id="0000:01:00.0", driver="550")
ABLE = Rates(412.34, 41.77)
PLAN = Plan("janes-model", "llama.cpp", "Q4_K_M", slots=4, slot_context_tokens=2048, gpu_layers=33, device_id="CUDA0")
RUN = MeasuredRun(
    1_700_000_000.0, Place("CUDA 0000:01:00.0", "550", "llama.cpp 1"), PLAN, ModelShape(7_241_732_096, 32, 4096, 2048),
    4_368_439_584, batch=1.0, depth=613.0, prompt_tokens=517.0, prefill_tokens_per_s=1234.5, decode_tokens_per_s=66.66,
)  # fmt: skip
FIVE_PERCENT = log(1.05)


def the_row() -> SharedRow:
    row = shared_row(SpeedCell(RUN, prefills=5, decodes=5), GPU, able=ABLE)
    assert row is not None
    return row


ROW = the_row()


def changed(**fields: object) -> SharedRow:
    return msgspec.structs.replace(ROW, **fields)


def test_a_row_says_what_and_never_who_or_which() -> None:
    text = msgspec.json.encode(ROW).decode()
    for secret in ("Jane", "jane", "RTX", "0000:01", "1700000000", "7241732096", "4368439584", "412.34", "66.66"):
        assert secret not in text
    assert (ROW.bandwidth_gbs, ROW.parameters, ROW.decode_tokens_per_s) == (410.0, 7.2e9, 67.0)


def test_a_cell_of_few_runs_is_not_shared() -> None:
    assert shared_row(SpeedCell(RUN, prefills=2, decodes=2), GPU, able=ABLE) is None
    only = shared_row(SpeedCell(RUN, prefills=2, decodes=3), GPU, able=ABLE)
    assert only is not None and only.prefill_tokens_per_s == 0.0 < only.decode_tokens_per_s


def test_a_row_asks_what_was_measured() -> None:
    case = decode_case_of(ROW)
    assert (case.backend, case.batch, case.layers, case.host_share) == ("cuda", 1.0, 32.0, 0.0)
    assert abs(log(case.depth / 613)) < 0.06 and abs(log(case.file_bytes / RUN.file_bytes)) < 0.06
    assert prefill_case_of(ROW).prompt_tokens == 520.0


def test_an_honest_row_has_no_fault() -> None:
    assert row_fault(ROW) is None and is_possible(ROW)


@pytest.mark.parametrize(
    "change",
    [
        {"bandwidth_gbs": 0.0}, {"bandwidth_gbs": inf}, {"matrix_tflops": -1.0}, {"parameters": 1e15}, {"layers": 0.0},
        {"batch": 0.0}, {"batch": 1e9}, {"depth": -1.0}, {"gpu_share": 1.1}, {"decode_tokens_per_s": 1e9},
        {"prefill_tokens_per_s": float("nan")}, {"backend": "Jane's"}, {"runtime": "mine"}, {"quantization": "Q99"},
        {"kv_type": "?"}, {"prefill_tokens_per_s": 0.0, "decode_tokens_per_s": 0.0}, {"file_bytes": 1e6},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    assert row_fault(changed(**change))


def test_ten_times_a_good_speed_is_more_than_the_memory_or_the_arithmetic_allows() -> None:
    assert not is_possible(changed(decode_tokens_per_s=10 * ROW.decode_tokens_per_s))
    assert not is_possible(changed(prefill_tokens_per_s=10 * ROW.prefill_tokens_per_s))


@given(st.floats(-1e300, 1e300) | st.sampled_from([inf, -inf, float("nan")]))
def test_rounding_keeps_two_digits_and_never_raises(value: float) -> None:
    found = rounded(value)
    assert found == 0.0 or abs(found / value - 1) < 0.06 or abs(value) < 1e-300


def test_only_hardware_like_ours_speaks_for_it() -> None:
    assert is_alike(ROW, GPU, able=ABLE)
    assert not is_alike(ROW, GPU, able=Rates(900.0, 41.0))
    assert not is_alike(ROW, GPU, able=Rates(410.0, 200.0))
    assert not is_alike(changed(backend="vulkan"), GPU, able=ABLE)
    assert not is_alike(changed(kind=DeviceKind.CPU), GPU, able=ABLE)


def votes(residuals: list[float]) -> list[Vote]:
    case = decode_case_of(ROW)
    return [Vote(PeerId(f"p{i}"), case, 50 * exp(r), 50.0) for i, r in enumerate(residuals)]


def found_in(residuals: list[float]) -> float:
    """What one cell's peers agree on, before it is shrunk for their number."""
    (one,) = agreed(votes(residuals))
    return one.residual * one.voters / (one.voters - MIN_VOTES + 1)


def test_few_voters_agree_on_nothing() -> None:
    assert agreed(votes([0.1] * (MIN_VOTES - 1))) == ()


def test_one_peer_has_one_vote_however_many_rows_it_sends() -> None:
    loud = [Vote(PeerId("loud"), decode_case_of(ROW), 120.0, 50.0)] * 500
    (one,) = agreed([*votes([0.0] * 19), *loud])
    assert abs(one.residual) < INFLUENCE / 18
    assert agreed(loud) == ()


def test_what_cannot_be_has_no_vote_but_lets_the_others_weigh_as_much() -> None:
    honest = votes([0.2] * 16)
    void = [
        msgspec.structs.replace(vote, peer=PeerId(f"v{i}"), is_possible=False)
        for i, vote in enumerate(votes([1.0] * 4))
    ]
    assert agreed([*honest, *void]) == agreed(votes([0.2] * 20))


def test_many_peers_are_believed_more_than_few() -> None:
    few, many = (agreed(votes([0.2] * count))[0].residual for count in (MIN_VOTES, 60))
    assert 0 < few < 0.1 < many < 0.2


def test_every_question_gets_the_same_answer() -> None:
    small = msgspec.structs.replace(decode_case_of(ROW), dequant_class=1)
    slower = [msgspec.structs.replace(vote, case=small, measured=50 * exp(-0.1)) for vote in votes([0.0] * 60)]
    one, other = agreed([*votes([0.1] * 60), *slower])
    assert one.residual == other.residual and abs(one.residual) < 0.01
    assert {one.case.dequant_class, other.case.dequant_class} == {1, 2}


@given(st.lists(st.floats(-0.3, 0.3), min_size=MIN_VOTES, max_size=60), st.integers(0, 2**32))
@settings(deadline=None)
def test_a_fifth_of_rows_times_ten_leaves_what_the_others_say(residuals: list[float], seed: int) -> None:
    liars = set(Random(seed).sample(range(len(residuals)), len(residuals) // 5))
    told = [r + log(10) * (i in liars) for i, r in enumerate(residuals)]
    kept = [r for i, r in enumerate(residuals) if i not in liars]
    assert abs(found_in(told) - centre(kept)) < 1e-9


@given(st.lists(st.floats(-0.05, 0.05), min_size=4, max_size=60), st.lists(st.floats(-9, 9), max_size=15))
@settings(deadline=None)
def test_whatever_a_fifth_says_moves_honest_peers_agreement_by_less_than_5_percent(
    honest: list[float], lies: list[float]
) -> None:
    liars = lies[: len(honest) // 4]
    assert abs(centre([*honest, *liars]) - centre(honest)) <= FIVE_PERCENT


@given(st.lists(st.floats(-0.34, 0.34), min_size=4, max_size=60), st.lists(st.floats(-9, 9), max_size=15))
@settings(deadline=None)
def test_the_agreement_never_leaves_the_honest(honest: list[float], lies: list[float]) -> None:
    liars = lies[: len(honest) // 4]
    assert min(honest) - INFLUENCE <= centre([*honest, *liars]) <= max(honest) + INFLUENCE


@pytest.mark.parametrize("lie", [10.0, 3.0, 1.9, 1.2, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_at_the_noise_between_sources_no_lie_of_a_fifth_moves_it_by_more_than_5_percent(lie: float, seed: int) -> None:
    chance = Random(seed)
    honest = [chance.gauss(0.1, 0.12) for _ in range(200)]
    told = [r + (log(lie) if i % 5 == 0 else 0.0) for i, r in enumerate(honest)]
    (lied,), (fair,) = agreed(votes(told)), agreed(votes(honest))
    assert abs(lied.residual - fair.residual) <= FIVE_PERCENT
