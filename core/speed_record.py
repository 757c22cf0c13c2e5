"""What this machine measured of itself while it served and while it was benchmarked: one run a job or cell, folded into
cells, the newest remembered best.

Pure. Never predicts: core.metamodel.own_measurements reads this and does. Never knows whose job a run was.
"""

from __future__ import annotations

from enum import StrEnum
from math import exp, log, log2

import msgspec

from core.device import Benchmark, DeviceKind, ModelShape, Reading
from core.job import Timing, Usage
from core.memory import device_key
from core.model_card import ModelCard
from core.plan import Plan

MAX_CELLS = 192
MEMORY_RUNS = 16
STEADY_RUNS = 3
LARGEST_JUMP = log(2)
MIN_DECODED = 16
MIN_READ = 64
HOT_BELOW_LIMIT_C = 10
BENCH_PROMPT_TOKENS = 256.0
BENCH_DEPTH = 64.0


class Thermal(StrEnum):
    """Whether the device was near the heat at which its owner, or its own firmware, slows it down."""

    UNKNOWN = "unknown"
    COOL = "cool"
    HOT = "hot"


class Place(msgspec.Struct, frozen=True):
    """Where a run was measured. Another driver or runtime is another place: what was learned at the old one is void."""

    device: str
    driver: str
    runtime: str
    thermal: Thermal = Thermal.UNKNOWN


class MeasuredRun(msgspec.Struct, frozen=True):
    """One own measurement. Speeds are tokens per second, decoding over the whole batch; 0: not measured.

    depth is the mean length of what lay in the KV while decoding; prompt_tokens were read, not taken from a cache.
    """

    at: float
    place: Place
    plan: Plan
    shape: ModelShape
    file_bytes: int
    batch: float = 1.0
    depth: float = 0.0
    prompt_tokens: float = 0.0
    prefill_tokens_per_s: float = 0.0
    decode_tokens_per_s: float = 0.0


class SpeedCell(msgspec.Struct, frozen=True):
    """Runs that asked the same question: the newest, with the mean speeds of all, and how many stand behind each."""

    run: MeasuredRun
    prefills: int = 0
    decodes: int = 0


class SpeedRecord(msgspec.Struct, frozen=True):
    """The cells, the least lately measured first; bounded."""

    cells: tuple[SpeedCell, ...] = ()

    def with_run(self, run: MeasuredRun) -> SpeedRecord:
        """One run more. Cells of its device under another driver or runtime are forgotten, and so is the oldest of too
        many."""
        if run.prefill_tokens_per_s <= 0 and run.decode_tokens_per_s <= 0:
            return self
        kept = [cell for cell in self.cells if not _is_void(cell.run.place, run.place)]
        known = next((cell for cell in kept if _key(cell.run) == _key(run)), SpeedCell(run))
        others = [cell for cell in kept if cell is not known]
        return SpeedRecord((*others[-(MAX_CELLS - 1) :], _merged(known, run)))

    def at(self, place: Place) -> tuple[SpeedCell, ...]:
        """The cells of a device under this very driver and runtime, whatever the heat."""
        return tuple(cell for cell in self.cells if _unheated(cell.run.place) == _unheated(place))


def job_run(run: MeasuredRun, *, usage: Usage, timing: Timing) -> MeasuredRun | None:
    """A finished job as a run: `run` says where and what, the rest what it took; None when it is too short to tell.

    A job that guessed tokens ahead says nothing of plain decoding, one that read next to nothing says none of reading.
    """
    made, read = usage.completion_tokens - 1, usage.prompt_tokens - timing.cached_tokens
    tells_decode = made >= MIN_DECODED and timing.decode_s > 0 and timing.drafted_tokens == 0
    tells_prefill = read >= MIN_READ and timing.prefill_s > 0
    if not tells_decode and not tells_prefill:
        return None
    batch = max(1.0, timing.batch)
    return msgspec.structs.replace(
        run,
        batch=batch,
        depth=usage.prompt_tokens + usage.completion_tokens / 2,
        prompt_tokens=float(max(0, read)),
        prefill_tokens_per_s=read / timing.prefill_s if tells_prefill else 0.0,
        decode_tokens_per_s=batch * made / timing.decode_s if tells_decode else 0.0,
    )


def bench_runs(benchmark: Benchmark, cards: dict[str, ModelCard]) -> tuple[MeasuredRun, ...]:
    """A benchmark's cells as runs, one a batch; none when nobody knows the shape of the model that was measured."""
    card = cards.get(benchmark.model)
    shape = benchmark.shape or (shape_of_model(card) if card is not None else None)
    if shape is None:
        return ()
    place = Place(device_key(benchmark.device), benchmark.device.driver, benchmark.runtime)
    first = benchmark.decode_by_batch or {1: benchmark.decode_tokens_per_s}
    cells = [(c.quantization, c.model_bytes, c.prefill_tokens_per_s, c.decode_by_batch) for c in benchmark.cells]
    if not cells:
        cells = [(benchmark.quantization, benchmark.model_bytes, benchmark.prefill_tokens_per_s, first)]
    return tuple(
        run
        for name, size, prefill, by_batch in cells
        for run in figure_runs(
            MeasuredRun(benchmark.at, place, _bench_plan(benchmark, name, layers=shape.layers), shape, size),
            prefill=prefill,
            decode_by_batch=by_batch,
        )
    )


def figure_runs(run: MeasuredRun, *, prefill: float, decode_by_batch: dict[int, float]) -> tuple[MeasuredRun, ...]:
    """One run a batch, as benchmarks measure: `run` says where and what, prefill goes with a sequence alone."""
    return tuple(
        msgspec.structs.replace(
            run,
            batch=float(batch),
            depth=BENCH_DEPTH,
            prompt_tokens=BENCH_PROMPT_TOKENS if batch == 1 else 0.0,
            prefill_tokens_per_s=prefill if batch == 1 else 0.0,
            decode_tokens_per_s=speed,
        )
        for batch, speed in decode_by_batch.items()
    )


def shape_of_model(card: ModelCard) -> ModelShape:
    """What of a card decides speeds."""
    return ModelShape(card.parameters, card.layers, card.hidden, card.kv_width)


def thermal_of(reading: Reading | None, *, limit_c: int) -> Thermal:
    """By the last reading and the heat at which the owner wants work to stop."""
    heat = reading.temperature_c if reading is not None else None
    if heat is None:
        return Thermal.UNKNOWN
    return Thermal.HOT if heat >= limit_c - HOT_BELOW_LIMIT_C else Thermal.COOL


def _merged(cell: SpeedCell, run: MeasuredRun) -> SpeedCell:
    known = cell.run
    prefills, prefill = _mean(cell.prefills, known.prefill_tokens_per_s, seen=run.prefill_tokens_per_s)
    decodes, decode = _mean(cell.decodes, known.decode_tokens_per_s, seen=run.decode_tokens_per_s)
    newest = msgspec.structs.replace(run, prefill_tokens_per_s=prefill, decode_tokens_per_s=decode)
    return SpeedCell(newest, prefills, decodes)


def _mean(count: int, known: float, *, seen: float) -> tuple[int, float]:
    """The count and the geometric mean after one more, the old fading; one odd run moves a known mean only so far."""
    if seen <= 0:
        return count, known
    if count == 0 or known <= 0:
        return 1, seen
    jump = log(seen / known)
    if count >= STEADY_RUNS:
        jump = min(LARGEST_JUMP, max(-LARGEST_JUMP, jump))
    return count + 1, known * exp(jump * max(1 / (count + 1), 1 / MEMORY_RUNS))


def _is_void(known: Place, now: Place) -> bool:
    return known.device == now.device and _unheated(known) != _unheated(now)


def _unheated(place: Place) -> tuple[str, str, str]:
    return place.device, place.driver, place.runtime


def _key(run: MeasuredRun) -> tuple[object, ...]:
    """Runs with the same key ask the same question: lengths and batches are told apart by factors of two."""
    p = run.plan
    how = (p.runtime, p.quantization, p.kv_type, p.gpu_layers, p.threads, p.prefill_chunk, p.flash_attention, p.steady)
    sizes = (round(log2(max(1.0, run.batch))), round(log2(64 + run.depth)), round(log2(64 + run.prompt_tokens)))
    return (run.place, run.shape, run.file_bytes, p.more_devices, how, sizes)


def _bench_plan(benchmark: Benchmark, quantization: str, *, layers: int) -> Plan:
    """How benchmarks load a model: whole on its device."""
    on_gpu = benchmark.device.kind is not DeviceKind.CPU
    return Plan(
        model=benchmark.model,
        runtime="llama.cpp",
        quantization=quantization,
        slots=8,
        slot_context_tokens=512,
        gpu_layers=layers + 1 if on_gpu else 0,
        prefill_chunk=round(BENCH_PROMPT_TOKENS),
        device_id=benchmark.device.device_id,
    )
