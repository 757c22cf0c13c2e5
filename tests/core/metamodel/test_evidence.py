"""Laws of what speaks for a prediction's error: own runs before peers, and peers only where their hardware is alike."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isclose, log

import msgspec

from core.device import Device, DeviceKind, ModelShape
from core.job import PeerId
from core.metamodel.evidence import Experience, own_observations, peers_on_decoding, peers_on_reading
from core.metamodel.features import Case, Rates
from core.metamodel.federation import Heard, SharedRow
from core.plan import Plan
from core.speed_record import MeasuredRun, Place, SpeedRecord

GIB = 1 << 30
GPU = Device("CUDA0", "A GPU", DeviceKind.GPU, "CUDA", 8 * GIB, 7 * GIB, pci_id="0000:01:00.0", driver="550")
ABLE = Rates(410.0, 42.0)
ROW = SharedRow(
    "cuda", DeviceKind.GPU, 8.0, 410.0, 42.0, "llama.cpp", "Q4_K_M", "F16", 7.2e9, 32.0, 4100.0, 2000.0, 4.4e9, 1.0,
    510.0, 1.0, 610.0, 520.0, 1200.0, 60.0,
)  # fmt: skip
PLAN = Plan("m", "llama.cpp", "Q4_K_M", slots=4, slot_context_tokens=2048, gpu_layers=33, device_id="CUDA0")
RUN = MeasuredRun(
    1.0, Place("CUDA 0000:01:00.0", "550", "llama.cpp 1"), PLAN, ModelShape(7_200_000_000, 32, 4096, 2048), 4 * GIB,
    depth=200.0, decode_tokens_per_s=50.0,
)  # fmt: skip


def fifty(cases: Sequence[Case]) -> list[float]:
    return [50.0] * len(cases)


def told(decode: float, *, count: int = 40, liars: int = 0) -> tuple[Heard, ...]:
    row = msgspec.structs.replace(ROW, decode_tokens_per_s=decode)
    lie = msgspec.structs.replace(row, decode_tokens_per_s=10 * decode)
    return tuple(Heard(PeerId(f"p{n}"), lie if n < liars else row) for n in range(count))


def test_own_runs_stand_beside_what_is_predicted_without_them() -> None:
    experience = Experience(SpeedRecord().with_run(RUN), "llama.cpp 1")
    (seen,) = own_observations(experience.decoded(GPU, able=ABLE), fifty)
    assert (seen.measured, seen.predicted) == (50.0, 50.0)
    assert experience.read(GPU, able=ABLE) == () == own_observations((), fifty)


def test_another_runtime_has_no_experience() -> None:
    assert Experience(SpeedRecord().with_run(RUN), "llama.cpp 2").decoded(GPU, able=ABLE) == ()


def test_what_peers_agree_on_is_as_if_measured_here() -> None:
    (seen,) = peers_on_decoding(told(60.0), fifty)
    assert seen.predicted == 50.0 and isclose(log(seen.measured / 50.0), 33 / 40 * log(60 / 50))
    assert peers_on_reading(told(60.0), lambda cases: [1200.0] * len(cases))[0].measured == 1200.0


def test_a_lying_fifth_changes_nothing() -> None:
    assert peers_on_decoding(told(60.0, liars=8), fifty) == peers_on_decoding(told(60.0), fifty)


def test_nobody_or_too_few_say_nothing() -> None:
    assert peers_on_decoding((), fifty) == peers_on_decoding(told(60.0, count=3), fifty) == ()


def test_only_peers_with_such_hardware_are_heard() -> None:
    other = Heard(PeerId("x"), msgspec.structs.replace(ROW, bandwidth_gbs=1000.0))
    assert Experience(heard=(*told(60.0, count=2), other)).alike(GPU, able=ABLE) == told(60.0, count=2)


def test_agreement_lies_within_what_was_said() -> None:
    (seen,) = peers_on_decoding((*told(40.0, count=20), *told(70.0, count=20)), fifty)
    assert 40 * exp(-0.01) <= seen.measured <= 70
