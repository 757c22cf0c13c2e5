"""The laws of fitting: arithmetic first, and nothing that failed is tried again with less."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from core.device import Device, DeviceKind
from core.memory import MAX_FAILURES, FailedLoad, MeasuredLoad, MemoryRecord, device_key, shape_of
from core.metamodel.fit import FREE_SHARE, Fit, file_bytes, need, split_layers
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


KEY = device_key(gpu(0))


def plan(quantization: str = "Q4_K_M", *, layers: int = 33) -> Plan:
    return Plan(CARD.model, "llama.cpp", quantization, slots=4, slot_context_tokens=2048, gpu_layers=layers)


@given(needed=BYTES, free=BYTES)
def test_what_exceeds_the_free_share_never_fits(needed: int, free: int) -> None:
    assert Fit().fits(needed, gpu(free)) == (needed <= FREE_SHARE * free)


@given(failed=BYTES, had=BYTES, needed=BYTES, free=BYTES)
def test_as_much_never_fits_again_in_no_more_free_memory(failed: int, had: int, needed: int, free: int) -> None:
    fit = Fit(MemoryRecord().with_failure(FailedLoad(KEY, failed, had)))
    if needed >= failed and free <= had:
        assert not fit.fits(needed, gpu(free))


@given(
    quantization=st.sampled_from(("F16", "Q8_0", "Q4_K_M")), layers=st.integers(1, 33), had=BYTES,
    lost=st.integers(0, 100 * GIB),
    loads=st.lists(st.tuples(st.sampled_from(("F16", "Q8_0", "Q4_K_M")), st.integers(1, 33), BYTES), max_size=4),
)  # fmt: skip
def test_a_plan_that_failed_never_fits_again_whatever_was_learned_since(
    quantization: str, layers: int, had: int, lost: int, loads: list[tuple[str, int, int]]
) -> None:
    """Other loads of the model may have taken less than was counted; so may the plan itself, once, with more room."""
    tried = plan(quantization, layers=layers)
    needed = Fit().needed_bytes(tried, CARD, device=gpu(had))
    record = MemoryRecord().with_failure(FailedLoad(KEY, needed, had, CARD.model, shape_of(tried)))
    for name, count, took in loads:
        other = plan(name, layers=count)
        counted = need(other, CARD, device=gpu(had)).device_bytes
        record = record.with_load(MeasuredLoad(KEY, CARD.model, shape_of(other), counted, took))
    now = gpu(max(0, had - lost))
    fit = Fit(record)
    assert not fit.fits(fit.needed_bytes(tried, CARD, device=now), now)


def test_a_failure_on_one_device_says_nothing_of_another() -> None:
    fit = Fit(MemoryRecord((FailedLoad("CUDA another", 1, 100 * GIB),)))
    assert fit.fits(GIB, gpu(10 * GIB))


def test_only_the_latest_failures_are_remembered() -> None:
    record = MemoryRecord()
    for i in range(MAX_FAILURES + 5):
        record = record.with_failure(FailedLoad(KEY, i, i))
    assert len(record.failures) == MAX_FAILURES
    assert record.failures[0].needed_bytes == 5


def test_a_quantization_not_made_yet_is_scaled_from_the_source() -> None:
    assert abs(file_bytes(CARD, "Q4_K_M") / 4.92e9 - 1) < 0.02
    assert file_bytes(CARD, "F16") == 16_070_000_000


def test_offloading_fewer_layers_moves_bytes_to_the_host() -> None:
    whole, half = need(plan(), CARD, device=gpu(0)), need(plan(layers=16), CARD, device=gpu(0))
    assert half.device_bytes < whole.device_bytes
    assert half.host_bytes > whole.host_bytes


def test_a_load_that_was_counted_is_known_exactly_and_moves_others_half_way() -> None:
    plain = Fit().needed_bytes(plan(), CARD, device=gpu(0))
    fit = Fit(MemoryRecord().with_load(MeasuredLoad(KEY, CARD.model, shape_of(plan()), plain, plain + 1000)))
    assert fit.needed_bytes(plan(), CARD, device=gpu(0)) == plain + 1000
    other = plan(layers=20)
    assert fit.needed_bytes(other, CARD, device=gpu(0)) == Fit().needed_bytes(other, CARD, device=gpu(0)) + 500


def test_a_load_of_the_same_shape_takes_the_place_of_the_older_one() -> None:
    loads = [MeasuredLoad(KEY, "m", "s", 1, took) for took in (5, 6)]
    assert MemoryRecord().with_load(loads[0]).with_load(loads[1]).loads == (loads[1],)


def test_a_split_gives_every_layer_to_one_device_by_its_share() -> None:
    both = msgspec.structs.replace(plan(), device_id="cuda0", more_devices=("cuda1",), layer_split=(2.0, 1.0))
    assert split_layers(both, CARD) == {"cuda0": 22, "cuda1": 11}
    first, second = gpu(0), msgspec.structs.replace(gpu(0), device_id="cuda1")
    shares = [need(both, CARD, device=device).device_bytes for device in (first, second)]
    assert abs(shares[0] / shares[1] - 2) < 0.15
    assert Fit().total_bytes(both, CARD, device=first) == sum(shares)
