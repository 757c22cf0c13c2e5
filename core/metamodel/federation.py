"""What peers tell each other of their speeds: anonymous rows, how far each is believed, and what they agree on.

Pure. A row says what hardware and what plan, never who, which machine or which model by name. One peer has one vote,
however many rows it sends, and one vote pulls only so far; what is physically impossible, or far from all others,
has no vote at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import isfinite, log, log2
from statistics import median

import msgspec

from core.device import Device, DeviceKind, ModelShape
from core.job import PeerId
from core.metamodel.features import Case, Rates, Workload, backend_of
from core.metamodel.own_measurements import Question, case_of
from core.metamodel.quantizations import kv_type, quantization
from core.plan import Plan
from core.speed_record import SpeedCell

MAX_ROWS = 32
MIN_RUNS = 3
MIN_VOTES = 8
MIN_BELIEVED = 3
CREDIBLE = log(4)
ALIKE = log(2)
INFLUENCE = 0.12
ROUNDS = 40
SAME_BANDWIDTH = log(1.3)
SAME_MATRIX_RATE = log(2)
_BACKENDS = ("cuda", "rocm", "vulkan", "metal", "sycl", "cpu")
_RUNTIMES = ("llama.cpp", "torch")
# Weights that a processor's cache holds are read faster than its memory; a probe's rates are not the very peak.
_CACHED_BYTES = 256e6
_BANDWIDTH_SLACK = 1.3
_MATRIX_SLACK = 2.5
_BOUNDS = {
    "memory_gib": (0.1, 4096.0),
    "bandwidth_gbs": (0.1, 20_000.0),
    "matrix_tflops": (1e-3, 5_000.0),
    "parameters": (1e4, 2e12),
    "layers": (1.0, 512.0),
    "hidden": (8.0, 65_536.0),
    "kv_width": (1.0, 262_144.0),
    "file_bytes": (1e4, 4e12),
    "gpu_share": (0.0, 1.0),
    "chunk_tokens": (0.0, 65_536.0),
    "batch": (1.0, 256.0),
    "depth": (0.0, 1e6),
    "prompt_tokens": (0.0, 1e6),
    "prefill_tokens_per_s": (0.0, 1e6),
    "decode_tokens_per_s": (0.0, 1e6),
}


class SharedRow(msgspec.Struct, frozen=True):
    """One cell of one peer's own measurements, every number to two digits. Rates as its probe measured them; speeds are
    tokens per second (0: not measured), decoding over the whole batch. gpu_share: how much of the weights is on a GPU.
    """

    backend: str
    kind: DeviceKind
    memory_gib: float
    bandwidth_gbs: float
    matrix_tflops: float
    runtime: str
    quantization: str
    kv_type: str
    parameters: float
    layers: float
    hidden: float
    kv_width: float
    file_bytes: float
    gpu_share: float
    chunk_tokens: float
    batch: float
    depth: float
    prompt_tokens: float
    prefill_tokens_per_s: float = 0.0
    decode_tokens_per_s: float = 0.0


class Heard(msgspec.Struct, frozen=True):
    """A row, and whose signature it came with: known only so that each peer has one vote."""

    peer: PeerId
    row: SharedRow


class Vote(msgspec.Struct, frozen=True):
    """A question, what a peer says was measured, and what the prediction says (tokens per second, above 0).

    is_possible: by the rates that the row itself names.
    """

    peer: PeerId
    case: Case
    measured: float
    predicted: float
    is_possible: bool = True

    @property
    def residual(self) -> float:
        """Log of measured over predicted."""
        return log(self.measured / self.predicted)


class Agreed(msgspec.Struct, frozen=True):
    """What voters agree on at one question: a log residual, already shrunk for their number."""

    case: Case
    residual: float
    voters: int


def shared_row(cell: SpeedCell, device: Device, *, able: Rates) -> SharedRow | None:
    """A cell as others may know it; None while too few runs stand behind it, or where it is out of bounds."""
    run, plan = cell.run, cell.run.plan
    if max(cell.prefills, cell.decodes) < MIN_RUNS or plan.more_devices:
        return None
    row = SharedRow(
        backend=backend_of(device),
        kind=device.kind,
        memory_gib=rounded(device.memory_bytes / 2**30),
        bandwidth_gbs=rounded(able.bandwidth_gbs),
        matrix_tflops=rounded(able.matrix_tflops),
        runtime=plan.runtime,
        quantization=plan.quantization,
        kv_type=plan.kv_type,
        parameters=rounded(run.shape.parameters),
        layers=rounded(run.shape.layers),
        hidden=rounded(run.shape.hidden),
        kv_width=rounded(run.shape.kv_width),
        file_bytes=rounded(run.file_bytes),
        gpu_share=rounded(min(1.0, plan.gpu_layers / (run.shape.layers + 1))),
        chunk_tokens=rounded(plan.prefill_chunk),
        batch=rounded(run.batch),
        depth=rounded(run.depth),
        prompt_tokens=rounded(run.prompt_tokens),
        prefill_tokens_per_s=rounded(run.prefill_tokens_per_s) if cell.prefills >= MIN_RUNS else 0.0,
        decode_tokens_per_s=rounded(run.decode_tokens_per_s) if cell.decodes >= MIN_RUNS else 0.0,
    )
    return row if row_fault(row) is None and is_possible(row) else None


def rounded(value: float) -> float:
    """To two significant digits: enough for statistics, too little to know a machine by."""
    return float(f"{value:.1e}") if isfinite(value) else 0.0


def row_fault(row: SharedRow) -> str | None:
    """Why no sound peer would send this row, whoever signed it; None if every number and name is within its bounds."""
    for name, (lowest, highest) in _BOUNDS.items():
        value = getattr(row, name)
        if not isfinite(value) or not lowest <= value <= highest:
            return f"The row's {name} is out of bounds."
    if row.backend not in _BACKENDS or row.runtime not in _RUNTIMES:
        return "The row's backend or runtime is not known."
    if quantization(row.quantization) is None or kv_type(row.kv_type) is None:
        return "The row's quantization is not known."
    if not 1.0 <= 8 * row.file_bytes / row.parameters <= 40.0:
        return "The row's file is no file of its model."
    if row.prefill_tokens_per_s <= 0 and row.decode_tokens_per_s <= 0:
        return "The row measured nothing."
    return None


def is_possible(row: SharedRow) -> bool:
    """False for what is faster than memory or arithmetic allow, by the rates that the row itself names."""
    bound = _BANDWIDTH_SLACK * row.bandwidth_gbs * 1e9 * row.batch / row.file_bytes
    if row.file_bytes > _CACHED_BYTES and row.decode_tokens_per_s > bound:
        return False
    return 2 * row.parameters * row.prefill_tokens_per_s <= _MATRIX_SLACK * row.matrix_tflops * 1e12


def is_alike(row: SharedRow, device: Device, *, able: Rates) -> bool:
    """Whether what such hardware did says something of this device: same backend and kind, and nearly its rates."""
    return (
        row.backend == backend_of(device)
        and row.kind is device.kind
        and abs(log(row.bandwidth_gbs / able.bandwidth_gbs)) <= SAME_BANDWIDTH
        and abs(log(row.matrix_tflops / able.matrix_tflops)) <= SAME_MATRIX_RATE
    )


def decode_case_of(row: SharedRow) -> Case:
    """The question behind a row's decode speed, on the hardware of its peer."""
    return _case(row, Workload(batch=row.batch, depth=row.depth))


def prefill_case_of(row: SharedRow) -> Case:
    """The question behind a row's prefill speed, on the hardware of its peer."""
    return _case(row, Workload(prompt_tokens=max(1.0, row.prompt_tokens)))


def agreed(votes: Sequence[Vote]) -> tuple[Agreed, ...]:
    """By how much the peers with such hardware agree that a prediction is wrong, at the questions that they answered.

    One number for all of them: formats and models apart, what a few peers more or less say of each would decide
    near-ties between plans, and with it a liar could. Fewer than eight peers agree on nothing. Who is not believed
    still counts as a voter, so that a lie does not change how much the others weigh.
    """
    together = _centre(votes)
    peers = len({vote.peer for vote in votes})
    if together is None or peers < MIN_VOTES:
        return ()
    trust = (peers - MIN_VOTES + 1) / peers
    asked: dict[tuple[object, ...], Case] = {}
    for vote in votes:
        asked.setdefault(_cell(vote.case), vote.case)
    return tuple(Agreed(case, trust * together, peers) for case in asked.values())


def centre(residuals: Sequence[float]) -> float:
    """The middle of those within a factor of two of the median of all, by Huber's estimator: between the mean, which
    wanders least when a few are missing, and the median, which a lie moves least. Must not be empty.

    Each pulls by its distance, at most INFLUENCE: where honest peers differ by less than that, a lying fifth pulls it
    by at most a quarter of INFLUENCE, whatever it says.
    """
    first = median(residuals)
    kept = [r for r in residuals if abs(r - first) <= ALIKE]
    middle = first
    for _ in range(ROUNDS):
        pulls = [min(INFLUENCE, max(-INFLUENCE, r - middle)) for r in kept]
        middle += sum(pulls) / len(kept)
    return middle


def _centre(votes: Sequence[Vote]) -> float | None:
    """One vote for each peer that says anything credible: the middle of what it says."""
    by_peer: defaultdict[PeerId, list[float]] = defaultdict(list)
    for vote in votes:
        if vote.is_possible and abs(vote.residual) <= CREDIBLE:
            by_peer[vote.peer].append(vote.residual)
    return centre([sum(own) / len(own) for own in by_peer.values()]) if len(by_peer) >= MIN_BELIEVED else None


def _cell(case: Case) -> tuple[object, ...]:
    """Questions that are nearly the same: the model's size by factors of four, its weights' width, alone or not."""
    return (round(log2(case.active_parameters) / 2), case.dequant_class, round(log2(case.bits)), case.batch <= 1.25)


def _case(row: SharedRow, workload: Workload) -> Case:
    layers = round(row.layers)
    plan = Plan(
        model="",
        runtime=row.runtime,
        quantization=row.quantization,
        slots=1,
        slot_context_tokens=2048,
        gpu_layers=round(row.gpu_share * (layers + 1)),
        prefill_chunk=round(row.chunk_tokens),
        kv_type=row.kv_type,
    )
    shape = ModelShape(round(row.parameters), layers, round(row.hidden), round(row.kv_width))
    device = Device("", "", row.kind, row.backend, round(row.memory_gib * 2**30), 0)
    able = Rates(row.bandwidth_gbs, row.matrix_tflops)
    return case_of(Question(plan, shape, round(row.file_bytes), workload), device, able=able)
