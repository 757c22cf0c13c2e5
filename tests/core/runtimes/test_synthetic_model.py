"""Laws of made-up models: real files of real shapes, the same each time, and finite in what they compute."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest

from core.device import Device, DeviceKind
from core.plan import Plan
from core.runtimes.llama_context import LlamaContext
from core.runtimes.llama_log import LlamaLog
from core.runtimes.llama_model import LlamaModel
from core.runtimes.synthetic_model import QUANTIZATIONS, _takes_more_bits, write_synthetic
from core.synthetic import LARGE, SMALL, SyntheticShape, shape_for

TINY = SyntheticShape("synthetic-tiny", 2, 256, 512, heads=4, kv_heads=2, vocabulary=512)
GIB = 1 << 30
GPU = Device("CUDA0", "GPU", DeviceKind.GPU, "CUDA", 24 * GIB, 20 * GIB)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_a_made_up_model_loads_and_its_logits_are_finite(tmp_path: Path, quantization: str) -> None:
    path = tmp_path / "made.gguf"
    write_synthetic(path, TINY, quantization=quantization)
    plan = Plan("made", "llama.cpp", quantization, slots=1, slot_context_tokens=256, prefill_chunk=16)
    with (
        closing(LlamaLog()) as log,
        closing(LlamaModel(str(path), log=log, plan=plan)) as model,
        closing(LlamaContext(model, plan, log=log)) as context,
    ):
        assert quantization.split("_")[0] in model.description
        context.begin()
        context.put([1] * 16, slot=0, position=0, draws=True)
        context.decode()
        logits = context.logits(1)
        assert model.vocabulary == TINY.vocabulary
        assert np.isfinite(logits).all() and logits.std() > 0


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_the_same_shape_is_the_same_file(tmp_path: Path, quantization: str) -> None:
    one, two = tmp_path / "one.gguf", tmp_path / "two.gguf"
    sizes = [write_synthetic(path, TINY, quantization=quantization) for path in (one, two)]
    assert sizes[0] == sizes[1] == one.stat().st_size
    assert one.read_bytes() == two.read_bytes()


def test_the_shapes_are_of_the_sizes_in_their_names() -> None:
    assert abs(SMALL.parameters / 134e6 - 1) < 0.01
    assert abs(LARGE.parameters / 1.1e9 - 1) < 0.01


def test_a_small_gpu_a_full_disk_or_a_processor_takes_the_small_shape() -> None:
    assert shape_for(GPU, free_disk_bytes=20 * GIB) is LARGE
    assert shape_for(GPU, free_disk_bytes=2 * GIB) is SMALL
    assert shape_for(msgspec.structs.replace(GPU, free_bytes=2 * GIB), free_disk_bytes=20 * GIB) is SMALL
    assert shape_for(msgspec.structs.replace(GPU, kind=DeviceKind.CPU), free_disk_bytes=20 * GIB) is SMALL


def test_the_mixture_has_more_bits_at_both_ends_and_in_every_third_layer_between() -> None:
    assert [layer for layer in range(16) if _takes_more_bits(layer, 16)] == [0, 1, 4, 7, 10, 13, 14, 15]
