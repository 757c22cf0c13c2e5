"""The laws of the roofline: more bandwidth, fewer bytes, a larger batch never make it slower."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from core.metamodel.columns import columns
from core.metamodel.features import Case
from core.metamodel.roofline import DEFAULT, decode_tokens_per_s, prefill_tokens_per_s, step_slope, touched

CASE = Case(
    bandwidth_gbs=936.0, matrix_tflops=71.0, file_bytes=4.9e9, active_bytes=4.9e9, parameters=8.03e9,
    active_parameters=8.03e9, layers=32.0, hidden=4096.0, bits=4.9, kv_bytes_per_token=131072.0, backend="cuda",
)


@given(st.floats(1.01, 20))
def test_more_bandwidth_is_never_slower(factor: float) -> None:
    faster = msgspec.structs.replace(CASE, bandwidth_gbs=CASE.bandwidth_gbs * factor)
    assert decode_tokens_per_s(faster, DEFAULT) > decode_tokens_per_s(CASE, DEFAULT)
    assert prefill_tokens_per_s(faster, DEFAULT) > prefill_tokens_per_s(CASE, DEFAULT)


@given(st.floats(1.0, 64), st.floats(1.0, 64))
def test_a_larger_batch_yields_more_tokens(a: float, b: float) -> None:
    few, many = sorted((a, b))
    speeds = [decode_tokens_per_s(msgspec.structs.replace(CASE, batch=n), DEFAULT) for n in (few, many)]
    assert speeds[0] <= speeds[1] * (1 + 1e-9)


def test_a_deeper_cache_is_slower() -> None:
    deep = msgspec.structs.replace(CASE, depth=8192.0)
    assert decode_tokens_per_s(deep, DEFAULT) < decode_tokens_per_s(CASE, DEFAULT)


def test_layers_left_on_the_host_are_slower() -> None:
    spilled = msgspec.structs.replace(CASE, host_share=0.5)
    assert decode_tokens_per_s(spilled, DEFAULT) < 0.5 * decode_tokens_per_s(CASE, DEFAULT)


def test_sequences_share_the_weights() -> None:
    assert 0 < step_slope(CASE, DEFAULT) < 0.5


def test_an_expert_model_reads_more_weights_in_a_batch() -> None:
    sparse = msgspec.structs.replace(CASE, active_bytes=4.9e8, active_parameters=8.03e8)
    batches = columns([msgspec.structs.replace(sparse, batch=float(b)) for b in (1, 4, 64)])
    read = touched(batches, batch=batches.batch).tolist()
    assert read == sorted(read)
    assert read[-1] <= sparse.file_bytes
