"""The numbers that the boosters see: ratios for the residual, physical quantities for the raw one.

Pure. The residual's inputs are ratios of times, so that no booster can recognise a device by its bandwidth (a name
table in disguise): leaving a GPU out, that alone took the median decode error from 27 % to 15 %.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.metamodel.columns import Columns
from core.metamodel.roofline import BUS_GBS, attention, chunks, launches, memory_seconds, touched

Table = NDArray[np.float64]
_BACKENDS = ("cuda", "rocm", "vulkan", "metal", "sycl", "cpu")
_RUNTIMES = ("llama.cpp", "tgis", "vllm", "mlx", "exllamav2", "torch(gpt-fast)", "mlc-llm", "exllama")
_REACHED = 0.8
_MATRIX_SHARE = 0.4
_LAYER_S = 60e-6
PHYSICAL = 6


def decode_ratios(c: Columns) -> Table:
    """Weights, KV and arithmetic against each other and against launching the layers, in one decode step."""
    reached = _REACHED * c.bandwidth_gbs * 1e9 * c.gpus
    weights_s = memory_seconds(c, touched(c, batch=c.batch), reached=reached)
    cache_s = c.batch * c.kv_bytes_per_token * c.depth / reached
    arithmetic_s = 2 * c.active_parameters * c.batch / (_MATRIX_SHARE * c.matrix_tflops * 1e12 * c.gpus)
    return np.column_stack(
        [
            np.log(weights_s / (launches(c) * _LAYER_S)),
            np.log(1 + cache_s / weights_s),
            np.log(arithmetic_s / weights_s),
            *_kinds(c),
        ]
    )


def prefill_ratios(c: Columns) -> Table:
    """Arithmetic against reading the weights and launching the layers, in one chunk of the prompt."""
    chunk = chunks(c)
    reached = _REACHED * c.bandwidth_gbs * 1e9 * c.gpus
    compute_s = 2 * c.active_parameters * chunk / (_MATRIX_SHARE * c.matrix_tflops * 1e12 * c.gpus)
    weights = touched(c, batch=chunk)
    weights_s = (1 - c.host_share) * weights / reached + c.host_share * weights / (BUS_GBS * 1e9)
    attention_s = attention(c) * chunk / (_MATRIX_SHARE * c.matrix_tflops * 1e12 * c.gpus)
    return np.column_stack(
        [
            np.log(compute_s / weights_s),
            np.log(compute_s / (launches(c) * _LAYER_S)),
            np.log(1 + attention_s / compute_s),
            np.log(chunk),
            np.log(c.active_parameters),
            np.log(c.matrix_tflops / c.bandwidth_gbs),
            *_kinds(c),
        ]
    )


def quantities(c: Columns) -> Table:
    """The raw booster's inputs. The first PHYSICAL of them are logs, and say how far a case is outside the training."""
    return np.column_stack(
        [
            np.log(c.bandwidth_gbs),
            np.log(c.matrix_tflops),
            np.log(c.active_bytes),
            np.log(c.active_parameters),
            np.log(c.file_bytes),
            np.log(c.batch),
            c.layers,
            c.hidden,
            np.log(1 + c.depth),
            np.log(1 + c.kv_bytes_per_token * np.maximum(1.0, c.depth)),
            np.log(c.prompt_tokens),
            *_kinds(c),
        ]
    )


def _kinds(c: Columns) -> list[Table]:
    return [
        np.log(c.active_bytes / c.file_bytes),
        c.bits,
        c.dequant_class,
        np.log(c.batch),
        c.host_share,
        c.gpus,
        c.unified,
        c.flash,
        _place(c.backend, _BACKENDS),
        _place(c.runtime, _RUNTIMES),
    ]


def _place(names: tuple[str, ...], known: tuple[str, ...]) -> Table:
    """Each name's place among the known ones, -1 for one that is not."""
    places = {name: float(i) for i, name in enumerate(known)}
    return np.array([places.get(name, -1.0) for name in names], dtype=np.float64)
