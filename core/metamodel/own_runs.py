"""The machine's own benchmark as the meta-model's questions: what was asked when these speeds were measured.

Pure. Never judges the benchmark; the probe rejects a noisy one before it gets here.
"""

from __future__ import annotations

from math import sqrt

from core.device import Benchmark, DeviceKind
from core.metamodel.features import Case, backend_of
from core.metamodel.fit import kv_bytes_per_token
from core.metamodel.quantizations import quantization
from core.model_card import ModelCard

BENCH_PROMPT_TOKENS = 256.0
BENCH_DEPTH = 64.0
MAX_SLOPE = 2.0


def decode_case(own: Benchmark, card: ModelCard) -> Case:
    """The cell behind decode_tokens_per_s: batch 1, a shallow cache."""
    return _case(own, card)


def prefill_case(own: Benchmark, card: ModelCard) -> Case:
    """The cell behind prefill_tokens_per_s: one prompt of 256 tokens."""
    return _case(own, card)


def batch_slope(own: Benchmark) -> float | None:
    """alpha of step(b) = t0 (1 + alpha b), least squares over the measured batches; None with fewer than two.

    decode_by_batch holds tokens per second over the whole batch.
    """
    steps = [(b, b / speed) for b, speed in sorted(own.decode_by_batch.items()) if speed > 0]
    if 1 not in own.decode_by_batch and own.decode_tokens_per_s > 0:
        steps.insert(0, (1, 1 / own.decode_tokens_per_s))
    if len(steps) < 2:
        return None
    mean_b = sum(b for b, _ in steps) / len(steps)
    mean_s = sum(s for _, s in steps) / len(steps)
    each = sum((b - mean_b) * (s - mean_s) for b, s in steps) / sum((b - mean_b) ** 2 for b, _ in steps)
    once = max(mean_s - each * mean_b, 0.05 * steps[0][1])
    return min(MAX_SLOPE, max(0.0, each) / once)


def typical_shape(parameters: float) -> tuple[float, float]:
    """(layers, hidden) of a usual transformer of this size: 7e9 has 32 x 4096; tuned on the models of the figures."""
    layers = max(2.0, round(32 * (parameters / 7e9) ** 0.36))
    return layers, sqrt(parameters / (12 * layers))


def _case(own: Benchmark, card: ModelCard) -> Case:
    row = quantization(own.quantization)
    bits = row.bits if row is not None else 16.0
    parameters, layers, hidden, kv = _shape(own, card, bits=bits)
    device = own.device
    return Case(
        bandwidth_gbs=max(own.memory_bandwidth_gbs, 0.1),
        matrix_tflops=max(own.matrix_tflops, 1e-3),
        file_bytes=float(own.model_bytes),
        active_bytes=float(own.model_bytes),
        parameters=parameters,
        active_parameters=parameters,
        layers=layers,
        hidden=hidden,
        bits=8 * own.model_bytes / parameters,
        dequant_class=row.dequant_class if row is not None else 0,
        kv_bytes_per_token=kv,
        depth=BENCH_DEPTH,
        prompt_tokens=BENCH_PROMPT_TOKENS,
        chunk_tokens=BENCH_PROMPT_TOKENS,
        unified=device.kind is not DeviceKind.GPU,
        backend=backend_of(device),
    )


def _shape(own: Benchmark, card: ModelCard, *, bits: float) -> tuple[float, float, float, float]:
    """(parameters, layers, hidden, KV bytes per token): the card's if it is the same model, those of the made-up one
    that was measured, else typical ones."""
    if own.shape is not None:
        made = own.shape
        return float(made.parameters), float(made.layers), float(made.hidden), 2.0 * made.layers * made.kv_width
    if own.model == card.model:
        return float(card.parameters), float(card.layers), float(card.hidden), kv_bytes_per_token(card, "F16")
    parameters = max(1.0, own.model_bytes * 8 / bits)
    layers, hidden = typical_shape(parameters)
    return parameters, layers, hidden, 4 * layers * hidden / 4
