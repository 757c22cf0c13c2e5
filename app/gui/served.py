"""Which model, quantization and device serve here, as names for people.

Pure: no Qt. Never invents: what is not known is left out.
"""

from __future__ import annotations

from app.gui.figures import HOUR_S, Now, count
from core.device import Device, DeviceKind
from core.job import Job, JobState
from core.job_history import MAX_ENDED_JOBS
from core.node_state import NodeState, Presence


def model_title(state: NodeState, model: str) -> str:
    """The model's title, or its name where no card is known."""
    card = state.models.get(model)
    return card.title if card is not None and card.title else model


def quantization(state: NodeState, model: str) -> str:
    """What this model is served with here, or nothing."""
    if state.worker is not None and state.worker.model == model:
        return state.worker.quantization
    if state.choice is not None and state.choice.plan.model == model:
        return state.choice.plan.quantization
    return ""


def served_title(state: NodeState) -> str:
    """The model that is (or will be) served, with its quantization; empty when none is chosen."""
    planned = state.choice.plan.model if state.choice is not None else ""
    model = state.worker.model if state.worker is not None else planned
    if not model:
        return ""
    return joined(model_title(state, model), quantization(state, model))


def joined(*parts: str) -> str:
    """The parts that say something, with a middle dot between."""
    return " · ".join(part for part in parts if part)


def device(state: NodeState) -> Device | None:
    """The device that serves: the plan's, else the one measured, else the best."""
    devices = state.machine.devices if state.machine is not None else ()
    wanted = state.choice.plan.device_id if state.choice is not None else ""
    for known in devices:
        if wanted and known.device_id == wanted:
            return known
    if state.choice is not None and state.choice.plan.gpu_layers == 0:
        processor = next((known for known in devices if known.kind is DeviceKind.CPU), None)
        if processor is not None:
            return processor
    if state.benchmark is not None:
        return state.benchmark.device
    return devices[0] if devices else None


def device_name(state: NodeState) -> str:
    """The device's name without its maker, or "this computer"."""
    found = device(state)
    return short_device(found.name) if found is not None else "this computer"


def short_device(name: str) -> str:
    """NVIDIA GeForce RTX 4090 as RTX 4090; AMD EPYC 9R45 as EPYC 9R45."""
    for word in ("(R)", "(TM)", "NVIDIA ", "GeForce ", "AMD ", "Intel ", "Core "):
        name = name.replace(word, "")
    return " ".join(name.split()[:4])


def is_processor(state: NodeState) -> bool:
    """True when a processor serves, not a GPU."""
    found = device(state)
    return found is not None and found.kind is DeviceKind.CPU


def full_speed(state: NodeState) -> float | None:
    """The measured tokens per second of the served model to compare with: the most that the plan's slots allow."""
    choice, benchmark = state.choice, state.benchmark
    if choice is None:
        return None
    if benchmark is not None and benchmark.model == choice.plan.model:
        speeds = [v for batch, v in benchmark.decode_by_batch.items() if batch <= choice.plan.slots]
        return max([benchmark.decode_tokens_per_s, *speeds])
    return choice.measured_decode_tokens_per_s or None


def is_in_network(state: NodeState) -> bool:
    """True while the offer is out or running jobs are finished after leaving was asked for."""
    return state.presence in (Presence.JOINED, Presence.LEAVING)


def live_by_age(state: NodeState) -> list[Job]:
    """Jobs that left the queue, the oldest first."""
    running = [job for job in state.jobs.values() if job.state is not JobState.QUEUED]
    return sorted(running, key=lambda job: (job.received_at, job.terms.job_id))


def waiting(state: NodeState) -> list[Job]:
    """Queued jobs in the order in which they will be taken; those without a place yet come last."""
    queued = [job for job in state.jobs.values() if job.state is JobState.QUEUED]
    return sorted(queued, key=lambda job: (job.place or len(queued) + 1, job.received_at))


def asked_lately(state: NodeState, now: Now) -> list[Job]:
    """The requests of the last hour that are still remembered."""
    known = (*state.jobs.values(), *state.ended)
    return [job for job in known if now.at - job.received_at <= HOUR_S]


def asked_count(state: NodeState, asked: list[Job]) -> str:
    """How many that is: 500+ where older ones of the same hour are forgotten already."""
    is_whole = len(state.ended) < MAX_ENDED_JOBS or len(asked) < MAX_ENDED_JOBS
    return count(len(asked)) if is_whole else f"{count(MAX_ENDED_JOBS)}+"
