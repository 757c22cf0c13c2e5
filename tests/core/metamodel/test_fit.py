"""The laws of fitting: arithmetic first, and nothing that failed is tried again with less."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.device import Device, DeviceKind
from core.metamodel.fit import FREE_SHARE, MAX_REMEMBERED, Fit, OutOfMemory, file_bytes, need
from core.model_card import ModelCard, ModelVariant
from core.plan import Plan

GIB = 1 << 30
BYTES = st.integers(1, 100 * GIB)
CARD = ModelCard(
    model="eight-b", title="8B", architecture="llama", parameters=8_030_000_000, layers=32, hidden=4096,
    feed_forward=14336, heads=32, kv_heads=8, kv_width=2048, vocabulary=128_256, context_tokens=8192,
    source_sha256="00", source_quantization="F16", variants=(ModelVariant("F16", 16_070_000_000, "00", "a.gguf"),),
)


def gpu(free_bytes: int) -> Device:
    return Device("cuda0", "GPU", DeviceKind.GPU, "CUDA", memory_bytes=24 * GIB, free_bytes=free_bytes)


def plan(quantization: str = "Q4_K_M", *, layers: int = 33) -> Plan:
    return Plan(CARD.model, "llama.cpp", quantization, slots=4, slot_context_tokens=2048, gpu_layers=layers)


@given(needed=BYTES, free=BYTES)
def test_what_exceeds_the_free_share_never_fits(needed: int, free: int) -> None:
    assert Fit().fits(needed, gpu(free)) == (needed <= FREE_SHARE * free)


@given(failed=BYTES, had=BYTES, needed=BYTES, free=BYTES)
def test_as_much_never_fits_again_in_no_more_free_memory(failed: int, had: int, needed: int, free: int) -> None:
    fit = Fit()
    fit.remember(OutOfMemory("cuda0", failed, had))
    if needed >= failed and free <= had:
        assert not fit.fits(needed, gpu(free))


def test_a_failure_on_one_device_says_nothing_of_another() -> None:
    fit = Fit((OutOfMemory("cuda1", 1, 100 * GIB),))
    assert fit.fits(GIB, gpu(10 * GIB))


def test_only_the_latest_failures_are_remembered() -> None:
    fit = Fit()
    for i in range(MAX_REMEMBERED + 5):
        fit.remember(OutOfMemory("cuda0", i, i))
    assert len(fit.remembered) == MAX_REMEMBERED
    assert fit.remembered[0].needed_bytes == 5


def test_a_quantization_not_made_yet_is_scaled_from_the_source() -> None:
    assert abs(file_bytes(CARD, "Q4_K_M") / 4.92e9 - 1) < 0.02
    assert file_bytes(CARD, "F16") == 16_070_000_000


def test_offloading_fewer_layers_moves_bytes_to_the_host() -> None:
    whole, half = need(plan(), CARD, device=gpu(0)), need(plan(layers=16), CARD, device=gpu(0))
    assert half.device_bytes < whole.device_bytes
    assert half.host_bytes > whole.host_bytes


def test_a_measured_load_moves_the_prediction_half_way() -> None:
    fit = Fit()
    before = fit.needed_bytes(plan(), CARD, device=gpu(0))
    fit.learn(predicted_bytes=before, measured_bytes=before + 1000)
    assert fit.needed_bytes(plan(), CARD, device=gpu(0)) == before + 500
