"""What physics allows: decode bound by the bytes read, prefill by the arithmetic, plus the cost of launching layers.

Pure formulas with a handful of constants per backend, over many cases at once. Never learns and never knows a name.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from core.metamodel.columns import Columns, Vector, columns
from core.metamodel.features import HOST_BANDWIDTH_GBS, Case

BUS_GBS = 16.0
# What one more sequence adds on a processor, over what its weights take: measured on two cores (starling bench).
HOST_SLOPE = 0.25
SPARSE_LAUNCHES = 2.0
_DENSE = 0.8


class Constants(msgspec.Struct, frozen=True):
    """Shares of the peak that a good runtime reaches, and seconds per layer and step that no bandwidth explains."""

    bandwidth_share: float = 0.84
    layer_s: float = 200e-6
    matrix_share: float = 0.45
    batch_matrix_share: float = 0.2
    attention_share: float = 0.4


class ConstantColumns(msgspec.Struct, frozen=True):
    """The constants of each case's backend, one array each."""

    bandwidth_share: Vector
    layer_s: Vector
    matrix_share: Vector
    batch_matrix_share: Vector
    attention_share: Vector


DEFAULT = Constants()
ON_CPU = Constants(layer_s=20e-6, matrix_share=0.6, batch_matrix_share=0.5, attention_share=0.5)


def constants_for(backend: str, fitted: dict[str, Constants]) -> Constants:
    """The backend's own constants if they were fitted, else the defaults of a GPU or a CPU."""
    return fitted.get(backend) or (ON_CPU if backend == "cpu" else DEFAULT)


def constant_columns(backends: Sequence[str], fitted: dict[str, Constants]) -> ConstantColumns:
    """The constants of each backend named, in order."""
    known = {backend: msgspec.structs.astuple(constants_for(backend, fitted)) for backend in set(backends)}
    return ConstantColumns(*np.array([known[backend] for backend in backends], dtype=np.float64).reshape(-1, 5).T)


def decode_speeds(c: Columns, k: ConstantColumns) -> Vector:
    """Tokens per second over the whole batch."""
    return np.asarray(c.batch / step_seconds(c, k, batch=c.batch))


def step_seconds(c: Columns, k: ConstantColumns, *, batch: Vector) -> Vector:
    """Seconds of one decode step of this many sequences: weights once, KV and arithmetic once per sequence."""
    reached = k.bandwidth_share * c.bandwidth_gbs * 1e9 * c.gpus
    weights_s = memory_seconds(c, touched(c, batch=batch), reached=reached)
    cache_s = batch * c.kv_bytes_per_token * c.depth / reached
    arithmetic_s = 2 * c.active_parameters * (batch - 1) / (k.batch_matrix_share * c.matrix_tflops * 1e12 * c.gpus)
    hosted_s = c.host_share * c.active_bytes / (HOST_BANDWIDTH_GBS * 1e9) * HOST_SLOPE * (batch - 1)
    return np.asarray(weights_s + cache_s + (1 - c.host_share) * arithmetic_s + hosted_s + launches(c) * k.layer_s)


def prefill_speeds(c: Columns, k: ConstantColumns) -> Vector:
    """Tokens per second of reading prompts: arithmetic per token, plus the weights once per chunk.

    Weights left on the host cross the bus once per chunk, which is how llama.cpp reads long prompts; short chunks on
    the host are slower still, and that is left to the boosters.
    """
    chunk = chunks(c)
    reached = k.bandwidth_share * c.bandwidth_gbs * 1e9 * c.gpus
    compute_s = (2 * c.active_parameters / k.matrix_share + attention(c) / k.attention_share) / (
        c.matrix_tflops * 1e12 * c.gpus
    )
    weights = touched(c, batch=chunk)
    weights_s = (1 - c.host_share) * weights / reached + c.host_share * weights / (BUS_GBS * 1e9)
    return np.asarray(chunk / (chunk * compute_s + weights_s + launches(c) * k.layer_s))


def slopes(c: Columns, k: ConstantColumns) -> Vector:
    """alpha of step(b) = t0 (1 + alpha b): what one more sequence adds, over what is paid once."""
    one = step_seconds(c, k, batch=np.ones_like(c.batch))
    each = np.maximum(0.0, (step_seconds(c, k, batch=np.full_like(c.batch, 8.0)) - one) / 7)
    return np.asarray(each / np.maximum(one - each, 1e-9))


def touched(c: Columns, *, batch: Vector) -> Vector:
    """Weights read in one step: all of a dense model; of experts, those that the batch's tokens pick."""
    active = np.minimum(1.0, c.active_bytes / c.file_bytes)
    return np.asarray(c.file_bytes * (1 - (1 - active) ** batch))


def launches(c: Columns) -> Vector:
    """Layers, each counted as often as a dense one's kernels are launched: routing to experts takes as many again."""
    return np.asarray(c.layers * np.where(c.active_bytes < _DENSE * c.file_bytes, SPARSE_LAUNCHES, 1.0))


def memory_seconds(c: Columns, weights: Vector, *, reached: Vector) -> Vector:
    """Seconds to read these weights where they lie: on the device at `reached` bytes per second, or on the host."""
    return np.asarray((1 - c.host_share) * weights / reached + c.host_share * weights / (HOST_BANDWIDTH_GBS * 1e9))


def chunks(c: Columns) -> Vector:
    """Prompt tokens that are read in one step."""
    return np.maximum(1.0, np.minimum(c.chunk_tokens, c.prompt_tokens * c.batch))


def attention(c: Columns) -> Vector:
    """Operations of one prompt token over half the prompt and what lies before it."""
    return np.asarray(4 * c.hidden * c.layers * (c.depth + c.prompt_tokens / 2))


def decode_tokens_per_s(case: Case, constants: Constants) -> float:
    """decode_speeds of one case."""
    return float(decode_speeds(columns([case]), constant_columns([case.backend], {case.backend: constants}))[0])


def prefill_tokens_per_s(case: Case, constants: Constants) -> float:
    """prefill_speeds of one case."""
    return float(prefill_speeds(columns([case]), constant_columns([case.backend], {case.backend: constants}))[0])


def step_slope(case: Case, constants: Constants) -> float:
    """The slope of one case."""
    return float(slopes(columns([case]), constant_columns([case.backend], {case.backend: constants}))[0])
