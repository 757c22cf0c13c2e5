"""Measure one device the way llama-bench does: warm-up, repetitions, medians, and a second try when it was not quiet.

Runs in a throw-away child. With a model's own file for a quick start; with made-up models in several quantizations for
`starling bench`, so that nothing must be downloaded and every machine is measured alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from core.device import Benchmark, BenchmarkCell, Device, DeviceKind
from core.plan import Plan
from core.runtimes.gpu_rates import gpu_rates
from core.runtimes.host_rates import host_bandwidth, host_matrix_rate
from core.runtimes.llama_devices import runtime_version
from core.runtimes.llama_model import ALL_LAYERS
from core.runtimes.model_speed import BATCHES, CONTEXT_TOKENS, PREFILL_TOKENS, ModelSpeed, Tell, model_speed
from core.runtimes.steadiness import FULL, QUICK, TWICE, Effort, Sampled, summarize
from core.runtimes.synthetic_model import write_synthetic
from core.runtimes.torch_devices import torch_devices
from core.worker.messages import MeasureDevice, PlanTried, RunBenchmark, TryPlan

RATES_SHARE = 0.2


class Rates(msgspec.Struct, frozen=True):
    """Bandwidth and copies in GB/s, matrix products in TFLOP/s."""

    bandwidth: Sampled
    matrix: Sampled
    copy: Sampled | None = None

    @property
    def samples(self) -> dict[str, tuple[float, ...]]:
        """Every raw figure."""
        found = {"memory GB/s": self.bandwidth.samples, "matrix TFLOP/s": self.matrix.samples}
        return found if self.copy is None else found | {"copy GB/s": self.copy.samples}


class Cells(msgspec.Struct, frozen=True):
    """What was measured of one model's quantizations, the first being the one that speaks for the device."""

    model: str
    speeds: dict[str, ModelSpeed]
    cells: tuple[BenchmarkCell, ...]


def measure(command: RunBenchmark, tell: Tell) -> Benchmark:
    """One device with this model's file, in seconds. Raises RuntimeFault when the model does not load there."""
    effort = QUICK if command.quick else FULL
    tell(0.0, "Measuring memory bandwidth")
    rates = _device_rates(command.device, command.threads, effort=effort)
    path = Path(command.path)
    plan = _plan(command.device, command.quantization, threads=command.threads)
    speed = model_speed(path, plan, effort=effort, tell=_part(tell, RATES_SHARE, end=1.0))
    tell(1.0, "Done")
    cell = speed.cell(command.quantization, path.stat().st_size)
    return _benchmark(command.device, rates, measured=Cells(command.model, {command.quantization: speed}, (cell,)))


def measure_device(command: MeasureDevice, tell: Tell) -> Benchmark:
    """One device with made-up models, twice over, for at most about limit_s: what comes late is left out, the first
    quantization never. Raises RuntimeFault when a model does not load, OSError when it cannot be written."""
    end = time.monotonic() + command.limit_s
    tell(0.0, "Measuring memory bandwidth")
    rates = _device_rates(command.device, command.threads, effort=TWICE)
    target, speeds, cells = Path(command.target), {}, []
    for number, quantization in enumerate(command.quantizations):
        began = time.monotonic()
        at = RATES_SHARE + (1 - RATES_SHARE) * number / len(command.quantizations)
        part = _part(tell, at, end=at + (1 - RATES_SHARE) / len(command.quantizations))
        part(0.0, f"Making the {quantization} model")
        size = write_synthetic(target, command.shape, quantization=quantization)
        plan = _plan(command.device, quantization, threads=command.threads)
        speeds[quantization] = model_speed(target, plan, effort=TWICE, tell=part)
        cells.append(speeds[quantization].cell(quantization, size))
        if time.monotonic() + (time.monotonic() - began) > end:
            break
    tell(1.0, "Done")
    found = _benchmark(command.device, rates, measured=Cells(command.shape.name, speeds, tuple(cells)))
    return msgspec.structs.replace(found, shape=command.shape.as_measured)


def try_plan(command: TryPlan, tell: Tell) -> PlanTried:
    """How fast a plan is, as benchmarks measure it. Raises RuntimeFault when it does not load."""
    plan = msgspec.structs.replace(
        command.plan, slot_context_tokens=CONTEXT_TOKENS, prefill_chunk=PREFILL_TOKENS, draft_tokens=0, steady=False
    )
    speed = model_speed(Path(command.path), plan, effort=QUICK, tell=tell)
    cell = speed.cell(plan.quantization, 0)
    return PlanTried(plan, cell.prefill_tokens_per_s, cell.decode_by_batch)


def _benchmark(device: Device, rates: Rates, *, measured: Cells) -> Benchmark:
    first = measured.cells[0]
    samples = dict(rates.samples)
    for quantization, speed in measured.speeds.items():
        samples |= speed.samples(quantization)
    return Benchmark(
        at=time.time(),
        device=device,
        runtime=runtime_version(),
        memory_bandwidth_gbs=rates.bandwidth.median,
        matrix_tflops=rates.matrix.median,
        model=measured.model,
        quantization=first.quantization,
        model_bytes=first.model_bytes,
        prefill_tokens_per_s=first.prefill_tokens_per_s,
        decode_tokens_per_s=first.decode_by_batch[1],
        decode_by_batch=first.decode_by_batch,
        load_s=first.load_s,
        spread=max(rates.bandwidth.spread, rates.matrix.spread, *(cell.spread for cell in measured.cells)),
        torch=torch_devices(device),
        copy_gbs=0.0 if rates.copy is None else rates.copy.median,
        drift=max(speed.drift for speed in measured.speeds.values()),
        cells=measured.cells,
        samples=samples,
    )


def _plan(device: Device, quantization: str, *, threads: int) -> Plan:
    on_gpu = device.kind is not DeviceKind.CPU
    return Plan(
        model="measured",
        runtime="llama.cpp",
        quantization=quantization,
        slots=max(BATCHES),
        slot_context_tokens=CONTEXT_TOKENS,
        gpu_layers=ALL_LAYERS if on_gpu else 0,
        threads=threads,
        prefill_chunk=PREFILL_TOKENS,
        device_id=device.device_id if on_gpu else "",
    )


def _device_rates(device: Device, threads: int, *, effort: Effort) -> Rates:
    if device.kind is DeviceKind.CPU:
        return Rates(host_bandwidth(threads, effort), host_matrix_rate(threads, effort))
    found = gpu_rates(device, repetitions=effort.repetitions, sample_s=effort.sample_s)
    return Rates(summarize(found.reading), summarize(found.products), summarize(found.copies))


def _part(tell: Tell, begin: float, *, end: float) -> Callable[[float, str], None]:
    """Progress of a part as progress of the whole."""
    return lambda fraction, text: tell(begin + (end - begin) * fraction, text)
