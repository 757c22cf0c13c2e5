"""Own runs as the meta-model's questions with their answers, so that what this machine did corrects what is predicted.

Pure. Never predicts, and never uses a run of another driver or runtime: what was learned there is void here.
"""

from __future__ import annotations

import msgspec

from core.device import Device, ModelShape
from core.memory import device_key
from core.metamodel.features import Case, Rates, Workload, case
from core.model_card import ModelCard, ModelVariant
from core.plan import Plan
from core.speed_record import MeasuredRun, Place, SpeedCell, SpeedRecord, Thermal

ALONE = 1.25
MAX_SEEN = 24


class Seen(msgspec.Struct, frozen=True):
    """A question that was answered here: tokens per second over the batch, and how many runs stand behind it."""

    case: Case
    measured: float
    runs: int = 1


class Question(msgspec.Struct, frozen=True):
    """A plan of a model of this shape and file size, and the load that it was under."""

    plan: Plan
    shape: ModelShape
    file_bytes: int
    workload: Workload


def decode_seen(record: SpeedRecord, device: Device, *, place: Place, able: Rates) -> tuple[Seen, ...]:
    """How fast answers were written on this device, the newest last. Sequences that ran alone speak first: those in
    company waited for their neighbours' prompts too."""
    known = [cell for cell in _cells(record, place) if cell.decodes]
    alone = [cell for cell in known if cell.run.batch <= ALONE]
    return tuple(
        Seen(_case(cell.run, device, able=able), cell.run.decode_tokens_per_s, cell.decodes)
        for cell in (alone or known)[-MAX_SEEN:]
    )


def prefill_seen(record: SpeedRecord, device: Device, *, place: Place, able: Rates) -> tuple[Seen, ...]:
    """How fast prompts were read on this device, the newest last."""
    known = [cell for cell in _cells(record, place) if cell.prefills]
    alone = [cell for cell in known if cell.run.batch <= ALONE]
    return tuple(
        Seen(_prompt_case(cell.run, device, able=able), cell.run.prefill_tokens_per_s, cell.prefills)
        for cell in (alone or known)[-MAX_SEEN:]
    )


def case_of(question: Question, device: Device, *, able: Rates) -> Case:
    """The physical question of a plan of which only the model's shape is known."""
    plan = question.plan
    return case(plan, device, card=_card(question), able=able, workload=question.workload)


def place_of(device: Device, runtime: str, *, thermal: Thermal = Thermal.UNKNOWN) -> Place:
    """Where a run on this device is measured now."""
    return Place(device_key(device), device.driver, runtime, thermal)


def _cells(record: SpeedRecord, place: Place) -> list[SpeedCell]:
    """Those of a device under this driver and runtime; of the present heat where there are any, else of every heat."""
    known = [cell for cell in record.at(place) if not cell.run.plan.more_devices]
    alike = [cell for cell in known if cell.run.place.thermal in (place.thermal, Thermal.UNKNOWN)]
    return alike or known


def _case(run: MeasuredRun, device: Device, *, able: Rates) -> Case:
    return case_of(Question(run.plan, run.shape, run.file_bytes, Workload(run.batch, run.depth)), device, able=able)


def _prompt_case(run: MeasuredRun, device: Device, *, able: Rates) -> Case:
    asked = Workload(prompt_tokens=max(1.0, run.prompt_tokens))
    return case_of(Question(run.plan, run.shape, run.file_bytes, asked), device, able=able)


def _card(question: Question) -> ModelCard:
    """As much of a card as a question needs."""
    shape, name = question.shape, question.plan.quantization
    return ModelCard(
        model=question.plan.model,
        title="",
        architecture="",
        parameters=shape.parameters,
        layers=shape.layers,
        hidden=shape.hidden,
        feed_forward=3 * shape.hidden,
        heads=1,
        kv_heads=1,
        kv_width=shape.kv_width,
        vocabulary=1,
        context_tokens=question.plan.slot_context_tokens,
        source_sha256="",
        source_quantization=name,
        variants=(ModelVariant(name, question.file_bytes, "", ""),),
    )
