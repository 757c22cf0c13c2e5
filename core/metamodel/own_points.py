"""What this machine measured of itself beside what the prior says of the same questions, uncorrected: for a picture.

Pure but for the meta-model it is handed. Never corrects and never chooses.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.device import Benchmark, Device, Machine
from core.memory import device_key
from core.metamodel.features import Case, Rates, Workload
from core.metamodel.meta_model import MetaModel
from core.metamodel.own_measurements import Question, case_of
from core.metamodel.predictor import Phase
from core.metamodel.scatter import Point
from core.speed_record import SpeedCell, SpeedRecord


def own_points(
    model: MetaModel, record: SpeedRecord, *, machine: Machine, benchmarks: Sequence[Benchmark | None], about: str = ""
) -> list[Point]:
    """A point for each cell in which answers were written, grouped by quantization. Speeds are over the whole batch.
    about: the model that the picture is about; those of others are marked (empty: none is)."""
    known = [benchmark for benchmark in benchmarks if benchmark is not None]
    points: list[Point] = []
    for device in machine.devices:
        cells = [c for c in record.cells if c.run.place.device == device_key(device) and c.decodes]
        able = model.rates(device, known)
        cases = [_case(cell, device, able=able) for cell in cells]
        said = model.cold(Phase.DECODE, cases)
        points += [
            Point(speed, run.decode_tokens_per_s, run.plan.quantization, is_other=about not in ("", run.plan.model))
            for run, speed in zip((cell.run for cell in cells), said, strict=True)
        ]
    return points


def _case(cell: SpeedCell, device: Device, *, able: Rates) -> Case:
    run = cell.run
    asked = Question(run.plan, run.shape, run.file_bytes, Workload(run.batch, run.depth))
    return case_of(asked, device, able=able)
