"""The numbers that the boosters see: ratios for the residual, physical quantities for the raw one.

Pure. The residual's inputs are ratios of times, so that no booster can recognise a device by its bandwidth (a name
table in disguise): leaving a GPU out, that alone took the median decode error from 27 % to 15 %.
"""

from __future__ import annotations

from math import log

from core.metamodel.features import Case
from core.metamodel.roofline import BUS_GBS, bytes_touched, memory_s

_BACKENDS = ("cuda", "rocm", "vulkan", "metal", "sycl", "cpu")
_RUNTIMES = ("llama.cpp", "tgis", "vllm", "mlx", "exllamav2", "torch(gpt-fast)", "mlc-llm", "exllama")
_REACHED = 0.8
_MATRIX_SHARE = 0.4
_LAYER_S = 60e-6
PHYSICAL = 6


def decode_ratios(c: Case) -> list[float]:
    """Weights, KV and arithmetic against each other and against launching the layers, in one decode step."""
    reached = _REACHED * c.bandwidth_gbs * 1e9 * c.gpus
    weights_s = memory_s(c, bytes_touched(c), reached=reached)
    cache_s = c.batch * c.kv_bytes_per_token * c.depth / reached
    arithmetic_s = 2 * c.active_parameters * c.batch / (_MATRIX_SHARE * c.matrix_tflops * 1e12 * c.gpus)
    return [
        log(weights_s / (c.layers * _LAYER_S)),
        log(1 + cache_s / weights_s),
        log(arithmetic_s / weights_s),
        *_kinds(c),
    ]


def prefill_ratios(c: Case) -> list[float]:
    """Arithmetic against reading the weights and launching the layers, in one chunk of the prompt."""
    chunk = max(1.0, min(c.chunk_tokens, c.prompt_tokens * c.batch))
    reached = _REACHED * c.bandwidth_gbs * 1e9 * c.gpus
    compute_s = 2 * c.active_parameters * chunk / (_MATRIX_SHARE * c.matrix_tflops * 1e12 * c.gpus)
    weights_s = (1 - c.host_share) * c.file_bytes / reached + c.host_share * c.file_bytes / (BUS_GBS * 1e9)
    return [
        log(compute_s / weights_s),
        log(compute_s / (c.layers * _LAYER_S)),
        log(c.prompt_tokens),
        log(1 + c.depth),
        log(c.active_parameters),
        log(c.matrix_tflops / c.bandwidth_gbs),
        *_kinds(c),
    ]


def quantities(c: Case) -> list[float]:
    """The raw booster's inputs. The first PHYSICAL of them are logs, and say how far a case is outside the training."""
    return [
        log(c.bandwidth_gbs),
        log(c.matrix_tflops),
        log(c.active_bytes),
        log(c.active_parameters),
        log(c.file_bytes),
        log(c.batch),
        c.layers,
        c.hidden,
        log(1 + c.depth),
        log(1 + c.kv_bytes_per_token * max(1.0, c.depth)),
        log(c.prompt_tokens),
        *_kinds(c),
    ]


def _kinds(c: Case) -> list[float]:
    return [
        log(c.active_bytes / c.file_bytes),
        c.bits,
        float(c.dequant_class),
        log(c.batch),
        c.host_share,
        float(c.gpus),
        float(c.unified),
        float(_BACKENDS.index(c.backend)) if c.backend in _BACKENDS else -1.0,
        float(_RUNTIMES.index(c.runtime)) if c.runtime in _RUNTIMES else -1.0,
    ]
