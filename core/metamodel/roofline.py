"""What physics allows: decode bound by the bytes read, prefill by the arithmetic, plus the cost of launching layers.

Pure formulas with a handful of constants per backend. Never learns and never knows a name.
"""

from __future__ import annotations

import msgspec

from core.metamodel.features import HOST_BANDWIDTH_GBS, Case

BUS_GBS = 16.0


class Constants(msgspec.Struct, frozen=True):
    """Shares of the peak that a good runtime reaches, and seconds per layer and step that no bandwidth explains."""

    bandwidth_share: float = 0.84
    layer_s: float = 200e-6
    matrix_share: float = 0.45
    batch_matrix_share: float = 0.2


DEFAULT = Constants()
ON_CPU = Constants(layer_s=20e-6, matrix_share=0.6, batch_matrix_share=0.5)


def constants_for(backend: str, fitted: dict[str, Constants]) -> Constants:
    """The backend's own constants if they were fitted, else the defaults of a GPU or a CPU."""
    return fitted.get(backend) or (ON_CPU if backend == "cpu" else DEFAULT)


def step_s(c: Case, constants: Constants) -> float:
    """Seconds of one decode step of c.batch sequences: weights once, KV and arithmetic once per sequence."""
    reached = constants.bandwidth_share * c.bandwidth_gbs * 1e9 * c.gpus
    weights_s = memory_s(c, bytes_touched(c), reached=reached)
    cache_s = c.batch * c.kv_bytes_per_token * c.depth / reached
    arithmetic_s = 2 * c.active_parameters * (c.batch - 1) / (
        constants.batch_matrix_share * c.matrix_tflops * 1e12 * c.gpus
    )
    return weights_s + cache_s + arithmetic_s + c.layers * constants.layer_s


def decode_tokens_per_s(c: Case, constants: Constants) -> float:
    """Tokens per second over the whole batch."""
    return c.batch / step_s(c, constants)


def prefill_tokens_per_s(c: Case, constants: Constants) -> float:
    """Tokens per second of reading prompts: arithmetic per token, plus the weights once per chunk.

    Weights left on the host cross the bus once per chunk, which is how llama.cpp reads long prompts; short chunks on
    the host are slower still, and that is left to the boosters.
    """
    chunk = max(1.0, min(c.chunk_tokens, c.prompt_tokens * c.batch))
    reached = constants.bandwidth_share * c.bandwidth_gbs * 1e9 * c.gpus
    compute_s = _operations(c) / (constants.matrix_share * c.matrix_tflops * 1e12 * c.gpus)
    weights_s = (1 - c.host_share) * c.file_bytes / reached + c.host_share * c.file_bytes / (BUS_GBS * 1e9)
    return chunk / (chunk * compute_s + weights_s + c.layers * constants.layer_s)


def step_slope(c: Case, constants: Constants) -> float:
    """alpha of step(b) = t0 (1 + alpha b): what one more sequence adds, over what is paid once."""
    one = step_s(msgspec.structs.replace(c, batch=1.0), constants)
    many = step_s(msgspec.structs.replace(c, batch=8.0), constants)
    each = max(0.0, (many - one) / 7)
    return each / max(one - each, 1e-9)


def bytes_touched(c: Case) -> float:
    """Weights read in one step: all of a dense model; of experts, those that the batch's tokens pick."""
    active = min(1.0, c.active_bytes / c.file_bytes)
    return float(c.file_bytes * (1 - (1 - active) ** c.batch))


def memory_s(c: Case, weights: float, *, reached: float) -> float:
    """Seconds to read these weights where they lie: on the device at `reached` bytes per second, or on the host."""
    host = HOST_BANDWIDTH_GBS * 1e9
    return (1 - c.host_share) * weights / reached + c.host_share * weights / host


def _operations(c: Case) -> float:
    """Per prompt token: two for each active weight, and attention over half the prompt and what lies before it."""
    seen = c.depth + c.prompt_tokens / 2
    return 2 * c.active_parameters + 4 * c.hidden * c.layers * seen
