"""Laws of calibration: promises follow measured speeds, carefully."""

from __future__ import annotations

from math import isclose
from pathlib import Path

import msgspec
import pytest

from core import events as e
from core.admission import Speed
from core.calibration import Calibration
from core.device import Device, DeviceKind, Machine, ModelShape
from core.job import JobId, JobState, Timing, Usage
from core.journal import Journal
from core.learning import Learning
from core.model_card import ModelCard, ModelVariant
from core.plan import Choice, Estimate, Plan
from core.scheduler import Scheduler
from core.speed_record import MeasuredRun, Place
from core.store import Store

LOADED = Speed(prefill_tokens_per_s=1000.0, step_s=0.01, step_slope=0.25, slots=4, chunk=128)
PLAN = Plan("m", "llama.cpp", "Q8_0", slots=4, slot_context_tokens=2048, device_id="CPU")
ESTIMATE = Estimate(1000.0, 80.0, 60.0, 100.0, 0.25, 1, True)
CARD = ModelCard(
    model="m", title="M", architecture="llama", parameters=1000, layers=2, hidden=8, feed_forward=16, heads=1,
    kv_heads=1, kv_width=16, vocabulary=100, context_tokens=2048, source_sha256="00", source_quantization="Q8_0",
    variants=(ModelVariant("Q8_0", 1100, "00", "m.gguf"),),
)  # fmt: skip


def a_run(decode: float = 0.0, *, batch: float = 1.0, prefill: float = 0.0) -> MeasuredRun:
    place, shape = Place("CPU x", "", "llama.cpp"), ModelShape(1, 1, 1, 1)
    return MeasuredRun(
        1.0, place, PLAN, shape, 1, batch=batch, prefill_tokens_per_s=prefill, decode_tokens_per_s=decode
    )


def after(*runs: MeasuredRun) -> Calibration:
    found = Calibration()
    for run in runs:
        found = found.with_run(run, LOADED)
    return found


def test_nothing_measured_changes_nothing() -> None:
    assert Calibration().speed(LOADED) == LOADED
    assert Calibration().estimate(ESTIMATE) == ESTIMATE


@pytest.mark.parametrize("batch", [1.0, 4.0])
def test_many_jobs_at_half_the_speed_halve_what_is_promised(batch: float) -> None:
    half = batch / (2 * LOADED.step(batch))
    found = after(*[a_run(half, batch=batch, prefill=500.0)] * 40)
    assert isclose(found.speed(LOADED).step_s, 0.02, rel_tol=0.05)
    assert isclose(found.speed(LOADED).prefill_tokens_per_s, 500, rel_tol=0.05)
    assert isclose(found.estimate(ESTIMATE).decode_low_tokens_per_s, 30, rel_tol=0.05)


def test_one_job_moves_it_half_way() -> None:
    assert isclose(after(a_run(1 / (4 * LOADED.step(1)))).step.factor, 2.0)


def test_one_odd_job_among_many_moves_it_little() -> None:
    usual = a_run(1 / LOADED.step(1))
    assert after(*[usual] * 20, a_run(usual.decode_tokens_per_s / 1000)).step.factor < 1.06


def test_phases_are_apart() -> None:
    found = after(*[a_run(prefill=250.0)] * 40).speed(LOADED)
    assert found.step_s == LOADED.step_s and found.prefill_tokens_per_s < 300


class Server:
    """A loaded model, as far as learning is concerned."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(LOADED)


async def test_an_ended_job_moves_the_promises_and_is_written_down(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    journal, server = Journal(store), Server()
    device = Device("CPU", "x", DeviceKind.CPU, "CPU", 8 << 30, 4 << 30)
    journal.announce(e.MachineFound(1.0, Machine((device,), 2, 8 << 30, "llama.cpp 1")))
    choice = Choice(PLAN, ESTIMATE, "because")
    learning = Learning(journal, server, choice=choice, card=CARD, limit_c=90)  # type: ignore[arg-type]
    ended = e.JobEnded(5.0, JobId("j"), JobState.FINISHED, "stop", Usage(500, 101), 5, Timing(1.0, 4.0, 1.0))
    learning.learn(ended)
    learning.learn(msgspec.structs.replace(ended, state=JobState.FAILED))
    assert server.scheduler.speed.step_s > LOADED.step_s
    assert learning.estimate.decode_low_tokens_per_s < ESTIMATE.decode_low_tokens_per_s
    await learning.write()
    (cell,) = journal.state.speeds.cells
    assert (cell.decodes, cell.run.decode_tokens_per_s, cell.run.file_bytes) == (1, 25.0, 1100)
    store.close()


async def test_a_device_that_is_gone_teaches_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    journal, server = Journal(store), Server()
    learning = Learning(journal, server, choice=Choice(PLAN, ESTIMATE, ""), card=CARD, limit_c=90)  # type: ignore[arg-type]
    learning.learn(e.JobEnded(5.0, JobId("j"), JobState.FINISHED, "", Usage(500, 101), 5, Timing(1.0, 4.0, 1.0)))
    assert server.scheduler.speed == LOADED
    store.close()
