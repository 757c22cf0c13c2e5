"""What the engine and a worker child say to each other over two pipes, in frames of core.framing.

Never carries a key, a price, a payer or a peer: a Generate says text and sampling, nothing about who or how much.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from core.device import Benchmark, Device
from core.job import ChatMessage, FinishReason, JobId, Sampling, Timing, TokenLogprob, Usage
from core.model_card import ModelCard
from core.plan import Plan
from core.synthetic import SyntheticShape

MAX_FRAME_BYTES = 8 << 20
NOT_CONFINED = "Not confined"


class FaultKind(StrEnum):
    """Why a worker could not do what it was told."""

    OUT_OF_MEMORY = "out_of_memory"
    BAD_FILE = "bad_file"
    BAD_REQUEST = "bad_request"
    NO_SPACE = "no_space"
    CANCELLED = "cancelled"
    INTERNAL = "internal"
    TIMED_OUT = "timed_out"


# engine to worker


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Load this model file and serve by this plan; answered by Loaded or Fault."""

    plan: Plan
    path: str


class Generate(msgspec.Struct, frozen=True, tag="generate"):
    """Start one job; answered by Started, Chunks and one Completed or JobFault. allowance is how many completion tokens
    are paid for so far: the worker stops before it and waits for Allow (no allowance: None).

    text is a completion's prompt as it stands, used when there are no messages. Cached prefixes are shared only between
    jobs of the same cache_scope, so that nobody learns another's prompt from how fast his own is read.
    """

    job_id: JobId
    messages: tuple[ChatMessage, ...]
    sampling: Sampling
    allowance: int | None = None
    text: str = ""
    cache_scope: str = ""


class Allow(msgspec.Struct, frozen=True, tag="allow"):
    """Raise a job's allowance to this total of completion tokens."""

    job_id: JobId
    allowance: int


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Stop a job within one step; answered by its Completed or JobFault(CANCELLED)."""

    job_id: JobId


class Preempt(msgspec.Struct, frozen=True, tag="preempt"):
    """Take a job's slot away; what it has computed is kept, or read again later, whichever is cheaper. Answered by
    Preempted, or by nothing when the job has just ended."""

    job_id: JobId


class Resume(msgspec.Struct, frozen=True, tag="resume"):
    """Let a preempted job go on as soon as a slot is free, before those who never had one."""

    job_id: JobId


class Count(msgspec.Struct, frozen=True, tag="count"):
    """How many prompt tokens these messages (or this text) make with the loaded model; answered by Counted."""

    job_id: JobId
    messages: tuple[ChatMessage, ...]
    text: str = ""


class Embed(msgspec.Struct, frozen=True, tag="embed"):
    """One vector for each text; answered by Embedded or JobFault."""

    job_id: JobId
    texts: tuple[str, ...]


class Inspect(msgspec.Struct, frozen=True, tag="inspect"):
    """Read a GGUF's header and try to open it, in a child that may die of it; answered by Inspected or Fault."""

    path: str


class Quantize(msgspec.Struct, frozen=True, tag="quantize"):
    """Quantize source to target (a new path, renamed by the caller); answered by Progress and Quantized or Fault."""

    source: str
    target: str
    quantization: str
    threads: int


class ListDevices(msgspec.Struct, frozen=True, tag="list_devices"):
    """Which devices llama.cpp's backends see; answered by Devices."""


class RunBenchmark(msgspec.Struct, frozen=True, tag="run_benchmark"):
    """Measure one device with this model file; answered by Progress and BenchmarkDone or Fault."""

    path: str
    model: str
    quantization: str
    device: Device
    threads: int
    quick: bool = False


class MeasureDevice(msgspec.Struct, frozen=True, tag="measure_device"):
    """Measure one device with made-up models, each written to target in turn (a file of the caller's, who removes it);
    answered by Progress and BenchmarkDone or Fault. After limit_s no further quantization is begun."""

    target: str
    device: Device
    threads: int
    shape: SyntheticShape
    quantizations: tuple[str, ...]
    limit_s: float


class MeasurePlan(msgspec.Struct, frozen=True, tag="measure_plan"):
    """How much memory this plan of this file would take, without taking it; answered by PlanMeasured or Fault."""

    plan: Plan
    path: str


class TryPlan(msgspec.Struct, frozen=True, tag="try_plan"):
    """Measure how fast this plan of this file is, in seconds; answered by Progress and PlanTried or Fault."""

    plan: Plan
    path: str


ServingCommand = Load | Generate | Allow | Cancel | Preempt | Resume | Count | Embed
OneShotCommand = Inspect | Quantize | ListDevices | RunBenchmark | MeasureDevice | MeasurePlan | TryPlan
WorkerCommand = ServingCommand | OneShotCommand


# worker to engine


class Confined(msgspec.Struct, frozen=True, tag="confined"):
    """The first word of every child: which parts of its sandbox hold, and which do not, each with its reason."""

    holds: tuple[str, ...]
    lacks: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """For the owner."""
        confined = f"Confined: {', '.join(self.holds) or 'nothing'}."
        return f"{confined} {NOT_CONFINED}: {'; '.join(self.lacks)}." if self.lacks else confined


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The model is ready. memory_bytes is what model, KV and compute buffers take; device_bytes the same by device."""

    load_s: float
    memory_bytes: int
    context_tokens: int
    description: str
    device_bytes: dict[str, int] = {}


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The job has a slot and its prompt is being read."""

    job_id: JobId
    prompt_tokens: int


class Chunk(msgspec.Struct, frozen=True):
    """Text that one or more tokens added. completion_tokens is the total so far; text never splits a character."""

    job_id: JobId
    text: str
    completion_tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


class Chunks(msgspec.Struct, frozen=True, tag="chunks"):
    """What one step, or a few quick ones, produced: all sequences in one frame, at most one chunk of each.

    A job that has used up its allowance says so in a chunk even when it has no text to show.
    """

    chunks: tuple[Chunk, ...]


class Completed(msgspec.Struct, frozen=True, tag="completed"):
    """A job reached its end."""

    job_id: JobId
    reason: FinishReason
    usage: Usage
    timing: Timing


class JobFault(msgspec.Struct, frozen=True, tag="job_fault"):
    """A job ended without reaching its end; usage is what had been delivered."""

    job_id: JobId
    kind: FaultKind
    message: str
    usage: Usage = Usage()


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    """The answer to Count."""

    job_id: JobId
    prompt_tokens: int


class Preempted(msgspec.Struct, frozen=True, tag="preempted"):
    """The job has no slot any more and waits for Resume; usage is what it has had so far."""

    job_id: JobId
    usage: Usage


class Embedded(msgspec.Struct, frozen=True, tag="embedded"):
    """The answer to Embed: float32 vectors of length 1, in the order of the texts."""

    job_id: JobId
    vectors: tuple[tuple[float, ...], ...]
    prompt_tokens: int


class Inspected(msgspec.Struct, frozen=True, tag="inspected"):
    """What the file says it is; source_sha256 and variants are left empty for the store to fill."""

    card: ModelCard


class Quantized(msgspec.Struct, frozen=True, tag="quantized"):
    """The target file is whole and closed."""

    file_bytes: int


class Devices(msgspec.Struct, frozen=True, tag="devices"):
    """The devices found, the runtime's own version line, and the names of the backends that this build has."""

    devices: tuple[Device, ...]
    runtime: str
    backends: tuple[str, ...] = ()


class PlanMeasured(msgspec.Struct, frozen=True, tag="plan_measured"):
    """What the plan takes by device; "CPU" is the host's memory. Without what a GPU's driver takes for itself."""

    device_bytes: dict[str, int]


class PlanTried(msgspec.Struct, frozen=True, tag="plan_tried"):
    """What was measured, in tokens per second: decoding over the whole batch, up to the plan's slots. plan is the one
    that was measured: as asked, but with the context and the chunk of a benchmark."""

    plan: Plan
    prefill_tokens_per_s: float
    decode_by_batch: dict[int, float]


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far a long piece of work is, 0 to 1, and what it is doing."""

    fraction: float
    text: str


class BenchmarkDone(msgspec.Struct, frozen=True, tag="benchmark_done"):
    """The measured figures."""

    benchmark: Benchmark


class ServingStats(msgspec.Struct, frozen=True):
    """Sums since the model was loaded. step_s is the time of all steps, decode_s that in the library's own decode."""

    steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    step_s: float = 0.0
    decode_s: float = 0.0


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    """The worker is alive; sent at least every second while it has work, so that a hang can be told from slowness."""

    steps: int
    stats: ServingStats = ServingStats()


class Fault(msgspec.Struct, frozen=True, tag="fault"):
    """The command that was running failed; free_bytes is the free memory at an OUT_OF_MEMORY."""

    kind: FaultKind
    message: str
    free_bytes: int = 0


WorkerReport = (
    Confined
    | Loaded
    | Started
    | Chunks
    | Completed
    | JobFault
    | Counted
    | Preempted
    | Embedded
    | Inspected
    | Quantized
    | Devices
    | PlanMeasured
    | PlanTried
    | Progress
    | BenchmarkDone
    | Heartbeat
    | Fault
)
