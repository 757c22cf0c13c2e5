"""Measure one device the way llama-bench does: warm-up, repetitions, medians, and a second try when it was not quiet.

Runs in a throw-away child. Stays within its time: fewer repetitions on slow machines, never fewer than one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np

from core.device import Benchmark, DeviceKind
from core.plan import Plan
from core.runtimes.llama_context import LlamaContext
from core.runtimes.llama_devices import runtime_version
from core.runtimes.llama_log import LlamaLog
from core.runtimes.llama_model import ALL_LAYERS, LlamaModel
from core.runtimes.torch_devices import torch_devices
from core.worker.messages import RunBenchmark

PREFILL_TOKENS = 256
BATCHES = (1, 4, 8)
CONTEXT_TOKENS = 512
MAX_SPREAD = 0.3
Tell = Callable[[float, str], None]


class Effort(msgspec.Struct, frozen=True):
    """How long to measure: repetitions of each figure, and about how long one of them lasts."""

    repetitions: int
    sample_s: float
    buffer_bytes: int
    matrix: int


FULL = Effort(repetitions=5, sample_s=0.4, buffer_bytes=256 << 20, matrix=1024)
QUICK = Effort(repetitions=3, sample_s=0.12, buffer_bytes=96 << 20, matrix=512)


class Sampled(msgspec.Struct, frozen=True):
    """The median of the samples (per second) and how far they lie apart: (p90 - p10) / median."""

    median: float
    spread: float


def measure(command: RunBenchmark, tell: Tell) -> Benchmark:
    """The whole benchmark of one device. Raises RuntimeFault when the model does not load there."""
    effort = QUICK if command.quick else FULL
    tell(0.0, "Measuring memory bandwidth")
    bandwidth, matrix = _device_rates(command, effort)
    tell(0.25, "Loading the model")
    began = time.perf_counter()
    plan = _plan(command)
    with (
        closing(LlamaLog()) as log,
        closing(LlamaModel(command.path, log=log, plan=plan)) as model,
        closing(LlamaContext(model, plan, log=log)) as context,
    ):
        load_s = time.perf_counter() - began
        tell(0.3, "Reading prompts")
        prefill = _steady(effort, lambda: _prefill_rate(context))
        decode = {}
        for number, batch in enumerate(BATCHES):
            tell(0.45 + 0.18 * number, f"Generating, {batch} at a time" if batch > 1 else "Generating")
            decode[batch] = _steady(effort, _decoder(context, batch, effort=effort))
    tell(1.0, "Done")
    return Benchmark(
        at=time.time(),
        device=command.device,
        runtime=runtime_version(),
        memory_bandwidth_gbs=bandwidth.median,
        matrix_tflops=matrix.median,
        model=command.model,
        quantization=command.quantization,
        model_bytes=Path(command.path).stat().st_size,
        prefill_tokens_per_s=prefill.median,
        decode_tokens_per_s=decode[1].median,
        decode_by_batch={batch: sampled.median for batch, sampled in decode.items()},
        load_s=load_s,
        spread=max(s.spread for s in (bandwidth, matrix, prefill, *decode.values())),
        torch=torch_devices(command.device),
    )


def summarize(samples: Sequence[float]) -> Sampled:
    """Median and spread of at least one sample."""
    low, median, high = np.percentile(samples, [10, 50, 90])
    return Sampled(float(median), float((high - low) / median) if median else 0.0)


def _steady(effort: Effort, sample: Callable[[], float]) -> Sampled:
    """Sample until there are enough or time is up; once more when they lie too far apart, then the quieter of both."""
    sample()
    first = summarize(_samples(effort, sample))
    if first.spread <= MAX_SPREAD:
        return first
    second = summarize(_samples(effort, sample))
    return min(first, second, key=lambda s: s.spread)


def _samples(effort: Effort, sample: Callable[[], float]) -> list[float]:
    end = time.perf_counter() + effort.repetitions * effort.sample_s
    samples = [sample()]
    while len(samples) < effort.repetitions and time.perf_counter() < end:
        samples.append(sample())
    return samples


def _plan(command: RunBenchmark) -> Plan:
    on_gpu = command.device.kind is not DeviceKind.CPU
    return Plan(
        model=command.model,
        runtime="llama.cpp",
        quantization=command.quantization,
        slots=max(BATCHES),
        slot_context_tokens=CONTEXT_TOKENS,
        gpu_layers=ALL_LAYERS if on_gpu else 0,
        threads=command.threads,
        prefill_chunk=PREFILL_TOKENS,
        device_id=command.device.device_id if on_gpu else "",
    )


def _prefill_rate(context: LlamaContext) -> float:
    context.clear()
    began = time.perf_counter()
    context.begin()
    context.put([1] * PREFILL_TOKENS, slot=0, position=0, draws=True)
    context.decode()
    context.logits(1)
    return PREFILL_TOKENS / (time.perf_counter() - began)


def _decoder(context: LlamaContext, batch: int, *, effort: Effort) -> Callable[[], float]:
    """Samples of tokens per second over the whole batch, drawing included, each about sample_s long."""
    slots = list(range(batch))
    state = {"position": 0, "steps": 4}

    def step() -> None:
        if state["position"] >= CONTEXT_TOKENS:
            context.clear()
            state["position"] = 0
        context.begin()
        context.put_each([1] * batch, slots=slots, positions=[state["position"]] * batch)
        context.decode()
        np.argmax(context.logits(batch), axis=1)
        state["position"] += 1

    def sample() -> float:
        began = time.perf_counter()
        for _ in range(state["steps"]):
            step()
        took = time.perf_counter() - began
        rate = state["steps"] * batch / took
        state["steps"] = max(1, min(400, round(state["steps"] * effort.sample_s / took)))
        return rate

    context.clear()
    return sample


def _device_rates(command: RunBenchmark, effort: Effort) -> tuple[Sampled, Sampled]:
    """Memory bandwidth in GB/s and matrix rate in TFLOP/s of the device."""
    if command.device.kind is DeviceKind.CPU:
        return _host_bandwidth(command.threads, effort), _host_matrix_rate(command.threads, effort)
    from core.runtimes.gpu_rates import gpu_rates

    bandwidth, matrix = gpu_rates(command.device)
    return summarize(bandwidth), summarize(matrix)


def _host_bandwidth(threads: int, effort: Effort) -> Sampled:
    """Reading, by dot products over more than any cache holds: what decoding is bound by."""
    parts = [np.ones(effort.buffer_bytes // 4 // threads, np.float32) for _ in range(threads)]
    gigabytes = sum(part.nbytes for part in parts) / 1e9
    with ThreadPoolExecutor(threads) as pool:

        def sample() -> float:
            began = time.perf_counter()
            list(pool.map(lambda part: np.dot(part, part), parts))
            return gigabytes / (time.perf_counter() - began)

        return _steady(effort, sample)


def _host_matrix_rate(threads: int, effort: Effort) -> Sampled:
    """Single-threaded float32 products side by side (the child's BLAS has one thread): no spinning between them."""
    left = np.ones((effort.matrix, effort.matrix), np.float32)
    outs = [np.empty_like(left) for _ in range(threads)]
    teraflop = threads * 2 * effort.matrix**3 / 1e12
    with ThreadPoolExecutor(threads) as pool:

        def sample() -> float:
            began = time.perf_counter()
            list(pool.map(lambda out: np.matmul(left, left, out=out), outs))
            return teraflop / (time.perf_counter() - began)

        return _steady(effort, sample)
