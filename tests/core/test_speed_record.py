"""Laws of own runs: what counts as one, how they are folded, and when they are forgotten."""

from __future__ import annotations

from math import isclose
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from core import events as e
from core.device import Benchmark, BenchmarkCell, Device, DeviceKind, ModelShape, Reading
from core.job import Timing, Usage
from core.journal import Journal
from core.memory import device_key
from core.metamodel.features import Rates
from core.metamodel.own_measurements import decode_seen, place_of, prefill_seen
from core.node_state import NodeState
from core.plan import Plan
from core.speed_record import (
    MAX_CELLS,
    MeasuredRun,
    Place,
    SpeedRecord,
    Thermal,
    bench_runs,
    job_run,
    thermal_of,
)
from core.state import apply
from core.store import KEPT_SPEEDS, Store

GIB = 1 << 30
GPU = Device("CUDA0", "A GPU", DeviceKind.GPU, "CUDA", 8 * GIB, 7 * GIB, pci_id="0000:01:00.0", driver="550")
SHAPE = ModelShape(7_000_000_000, 32, 4096, 8192)
PLAN = Plan("m", "llama.cpp", "Q4_K_M", slots=4, slot_context_tokens=2048, gpu_layers=33, device_id="CUDA0")
HERE = Place(device_key(GPU), "550", "llama.cpp 1")
ABLE = Rates(400.0, 40.0)


def a_run(decode: float = 50.0, *, prefill: float = 0.0, place: Place = HERE, batch: float = 1.0) -> MeasuredRun:
    return MeasuredRun(
        1.0, place, PLAN, SHAPE, 4 * GIB, batch=batch, depth=200.0, prompt_tokens=300.0 if prefill else 0.0,
        prefill_tokens_per_s=prefill, decode_tokens_per_s=decode,
    )  # fmt: skip


def folded(*runs: MeasuredRun) -> SpeedRecord:
    record = SpeedRecord()
    for run in runs:
        record = record.with_run(run)
    return record


def test_a_job_alone_is_a_run_of_both_phases() -> None:
    run = job_run(a_run(), usage=Usage(320, 101), timing=Timing(0.5, 2.0, 0.6, 1.0, cached_tokens=20))
    assert run is not None
    assert (run.decode_tokens_per_s, run.prefill_tokens_per_s, run.depth) == (50.0, 600.0, 370.5)


def test_a_job_in_company_counts_the_whole_batch() -> None:
    run = job_run(a_run(), usage=Usage(10, 101), timing=Timing(0.5, 4.0, 0.6, 4.0))
    assert run is not None and run.decode_tokens_per_s == 100.0 and run.prefill_tokens_per_s == 0.0


def test_what_is_too_short_or_guessed_ahead_tells_nothing() -> None:
    assert job_run(a_run(), usage=Usage(10, 5), timing=Timing(0.1, 0.1)) is None
    assert job_run(a_run(), usage=Usage(10, 100), timing=Timing(0.1, 1.0, drafted_tokens=9)) is None
    assert job_run(a_run(), usage=Usage(500, 1), timing=Timing(0.1, 0.0, cached_tokens=480)) is None


def test_runs_that_ask_the_same_become_one_cell_with_their_mean() -> None:
    cell = folded(a_run(40.0), a_run(50.0)).cells[0]
    assert cell.decodes == 2 and isclose(cell.run.decode_tokens_per_s, (40 * 50) ** 0.5)


def test_other_batches_and_heats_are_other_cells() -> None:
    hot = msgspec.structs.replace(HERE, thermal=Thermal.HOT)
    assert len(folded(a_run(), a_run(batch=4.0), a_run(place=hot)).cells) == 3


def test_one_odd_run_does_not_move_a_known_mean_far() -> None:
    cell = folded(*[a_run(50.0)] * 5, a_run(50_000.0)).cells[0]
    assert 50 < cell.run.decode_tokens_per_s < 60


def test_another_driver_or_runtime_forgets_what_the_device_did_before() -> None:
    for change in ({"driver": "560"}, {"runtime": "llama.cpp 2"}):
        renewed = msgspec.structs.replace(HERE, **change)
        assert [cell.run.place for cell in folded(a_run(), a_run(place=renewed)).cells] == [renewed]


def test_another_devices_runs_are_left_alone() -> None:
    other = msgspec.structs.replace(HERE, device="Vulkan other", driver="1")
    assert len(folded(a_run(), a_run(place=other)).cells) == 2


@given(st.lists(st.tuples(st.integers(0, 400), st.floats(1e-3, 1e6)), max_size=300))
def test_the_record_is_bounded_and_its_means_lie_between_what_was_seen(rows: list[tuple[int, float]]) -> None:
    sized = [msgspec.structs.replace(a_run(speed), file_bytes=1 + number) for number, speed in rows]
    record = folded(*sized)
    assert len(record.cells) <= MAX_CELLS
    for cell in record.cells:
        seen = [run.decode_tokens_per_s for run in sized if run.file_bytes == cell.run.file_bytes]
        assert min(seen) * 0.999 <= cell.run.decode_tokens_per_s <= max(seen) * 1.001


def test_a_benchmark_is_a_run_for_each_quantization_and_batch() -> None:
    cells = (
        BenchmarkCell("Q8_0", 7 * GIB, 1.0, 900.0, {1: 40.0, 4: 90.0}),
        BenchmarkCell("F16", 14 * GIB, 1.0, 800.0, {1: 20.0}),
    )
    measured = Benchmark(
        5.0, GPU, "llama.cpp 1", 400.0, 40.0, "made", "Q8_0", 7 * GIB, 900.0, 40.0, cells=cells, shape=SHAPE
    )
    runs = bench_runs(measured, {})
    assert [(r.plan.quantization, r.batch, r.decode_tokens_per_s, r.prefill_tokens_per_s) for r in runs] == [
        ("Q8_0", 1.0, 40.0, 900.0), ("Q8_0", 4.0, 90.0, 0.0), ("F16", 1.0, 20.0, 800.0)
    ]  # fmt: skip
    assert len(apply(NodeState(), e.BenchmarkFinished(5.0, measured)).speeds.cells) == 3
    assert bench_runs(msgspec.structs.replace(measured, shape=None), {}) == ()


def test_heat_is_told_by_the_owners_limit() -> None:
    assert thermal_of(None, limit_c=90) is thermal_of(Reading(1.0), limit_c=90) is Thermal.UNKNOWN
    assert thermal_of(Reading(1.0, temperature_c=60.0), limit_c=90) is Thermal.COOL
    assert thermal_of(Reading(1.0, temperature_c=84.0), limit_c=90) is Thermal.HOT


def test_own_runs_answer_the_questions_that_are_predicted() -> None:
    record = folded(a_run(50.0, prefill=900.0), a_run(120.0, batch=4.0))
    decode = decode_seen(record, GPU, place=place_of(GPU, "llama.cpp 1"), able=ABLE)
    prefill = prefill_seen(record, GPU, place=place_of(GPU, "llama.cpp 1"), able=ABLE)
    assert [(s.measured, s.case.batch, s.case.depth, s.case.layers) for s in decode] == [(50.0, 1.0, 200.0, 32.0)]
    assert [(s.measured, s.case.prompt_tokens, s.case.bandwidth_gbs) for s in prefill] == [(900.0, 300.0, 400.0)]


def test_runs_in_company_speak_only_where_none_was_alone() -> None:
    seen = decode_seen(folded(a_run(120.0, batch=4.0)), GPU, place=place_of(GPU, "llama.cpp 1"), able=ABLE)
    assert [(s.case.batch, s.measured) for s in seen] == [(4.0, 120.0)]


def test_another_driver_or_runtime_sees_nothing() -> None:
    renewed = msgspec.structs.replace(GPU, driver="560")
    record = folded(a_run())
    assert decode_seen(record, renewed, place=place_of(renewed, "llama.cpp 1"), able=ABLE) == ()
    assert decode_seen(record, GPU, place=place_of(GPU, "llama.cpp 2"), able=ABLE) == ()


def test_runs_at_the_present_heat_speak_first() -> None:
    cool, hot = (msgspec.structs.replace(HERE, thermal=heat) for heat in (Thermal.COOL, Thermal.HOT))
    record = folded(a_run(50.0, place=cool), a_run(30.0, place=hot))
    now_hot = place_of(GPU, "llama.cpp 1", thermal=Thermal.HOT)
    assert [s.measured for s in decode_seen(record, GPU, place=now_hot, able=ABLE)] == [30.0]
    assert len(decode_seen(record, GPU, place=place_of(GPU, "llama.cpp 1"), able=ABLE)) == 2


async def test_rows_survive_a_restart_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    journal = Journal(store)
    await journal.record(e.WorkResumed(1.0))
    facts = tuple(e.SpeedMeasured(float(i), a_run(50.0)) for i in range(KEPT_SPEEDS + 600))
    for begin in range(0, len(facts), 100):
        await journal.record(*facts[begin : begin + 100])
    before = journal.state
    store.close()
    again = Store(tmp_path / "s.db")
    assert Journal(again).state.speeds == before.speeds
    assert Journal(again).state.speeds.cells[0].decodes == KEPT_SPEEDS + 600
    again.save_snapshot(len(facts) + 1, before)
    kept = [fact for _, fact in again.facts() if isinstance(fact, e.SpeedMeasured)]
    assert len(kept) == KEPT_SPEEDS and kept[-1] == facts[-1]
    assert any(isinstance(fact, e.WorkResumed) for _, fact in again.facts())
    again.close()
