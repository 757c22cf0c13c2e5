"""What the engine and a worker child say to each other over two pipes, in frames of core.framing.

Never carries a key, a price, a payer or a peer: a Generate says text and sampling, nothing about who or how much.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from core.device import Benchmark, Device
from core.job import ChatMessage, FinishReason, JobId, Sampling, Timing, Usage
from core.model_card import ModelCard
from core.plan import Plan

MAX_FRAME_BYTES = 8 << 20


class FaultKind(StrEnum):
    """Why a worker could not do what it was told."""

    OUT_OF_MEMORY = "out_of_memory"
    BAD_FILE = "bad_file"
    BAD_REQUEST = "bad_request"
    NO_SPACE = "no_space"
    CANCELLED = "cancelled"
    INTERNAL = "internal"


# engine to worker


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Load this model file and serve by this plan; answered by Loaded or Fault."""

    plan: Plan
    path: str


class Generate(msgspec.Struct, frozen=True, tag="generate"):
    """Start one job; answered by Started, Chunks and one Completed or JobFault. allowance is how many completion tokens
    are paid for so far: the worker stops before it and waits for Allow (no allowance: None)."""

    job_id: JobId
    messages: tuple[ChatMessage, ...]
    sampling: Sampling
    allowance: int | None = None


class Allow(msgspec.Struct, frozen=True, tag="allow"):
    """Raise a job's allowance to this total of completion tokens."""

    job_id: JobId
    allowance: int


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Stop a job within one step; answered by its Completed or JobFault(CANCELLED)."""

    job_id: JobId


class Count(msgspec.Struct, frozen=True, tag="count"):
    """How many prompt tokens these messages make with the loaded model's template; answered by Counted."""

    job_id: JobId
    messages: tuple[ChatMessage, ...]


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


WorkerCommand = Load | Generate | Allow | Cancel | Count | Inspect | Quantize | ListDevices | RunBenchmark


# worker to engine


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The model is ready. memory_bytes is what model, KV and compute buffers take."""

    load_s: float
    memory_bytes: int
    context_tokens: int
    description: str


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The job has a slot and its prompt is being read."""

    job_id: JobId
    prompt_tokens: int


class Chunk(msgspec.Struct, frozen=True):
    """Text that one or more tokens added. completion_tokens is the total so far; text never splits a character."""

    job_id: JobId
    text: str
    completion_tokens: int


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


class Inspected(msgspec.Struct, frozen=True, tag="inspected"):
    """What the file says it is; source_sha256 and variants are left empty for the store to fill."""

    card: ModelCard


class Quantized(msgspec.Struct, frozen=True, tag="quantized"):
    """The target file is whole and closed."""

    file_bytes: int


class Devices(msgspec.Struct, frozen=True, tag="devices"):
    """The devices found, and the runtime's own version line."""

    devices: tuple[Device, ...]
    runtime: str


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far a long piece of work is, 0 to 1, and what it is doing."""

    fraction: float
    text: str


class BenchmarkDone(msgspec.Struct, frozen=True, tag="benchmark_done"):
    """The measured figures."""

    benchmark: Benchmark


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    """The worker is alive; sent at least every second while it has work, so that a hang can be told from slowness."""

    steps: int


class Fault(msgspec.Struct, frozen=True, tag="fault"):
    """The command that was running failed; free_bytes is the free memory at an OUT_OF_MEMORY."""

    kind: FaultKind
    message: str
    free_bytes: int = 0


WorkerReport = (
    Loaded
    | Started
    | Chunks
    | Completed
    | JobFault
    | Counted
    | Inspected
    | Quantized
    | Devices
    | Progress
    | BenchmarkDone
    | Heartbeat
    | Fault
)
