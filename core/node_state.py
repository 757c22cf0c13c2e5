"""What is true now, as values: the state that the engine, the window and the command line share.

Holds no rule: core.state folds events into it.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from core import events as e
from core.demand import Demand
from core.device import Benchmark, Machine, Reading
from core.job import Job, JobId
from core.memory import MemoryRecord
from core.model_card import ModelCard
from core.payments.ledger import Ledger
from core.peer_seen import PeersSeen
from core.plan import Choice, Plan
from core.speed_record import SpeedRecord


class Presence(StrEnum):
    """Where this machine stands towards the network."""

    IDLE = "idle"
    JOINING = "joining"
    JOINED = "joined"
    LEAVING = "leaving"


class Pause(msgspec.Struct, frozen=True):
    """Why no new job is taken, since when, and until when (None: until resumed)."""

    reason: str
    since: float
    until: float | None


class Progress(msgspec.Struct, frozen=True):
    """The long work under way."""

    work: str
    fraction: float
    text: str


class Served(msgspec.Struct, frozen=True):
    """Counts and sums of one day (days since the epoch, UTC) or of all time."""

    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    on_time: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    amount: int = 0
    busy_s: float = 0.0
    by_model: dict[str, int] = {}


class Sample(msgspec.Struct, frozen=True):
    """One point of the throughput chart."""

    at: float
    tokens_per_s: float
    jobs: int


class NodeState(msgspec.Struct, frozen=True):
    """Everything the window shows. jobs holds the live ones in queue order, ended the newest first."""

    network: e.NetworkNamed | None = None
    machine: Machine | None = None
    benchmark: Benchmark | None = None
    measured: tuple[Benchmark, ...] = ()
    reading: Reading | None = None
    models: dict[str, ModelCard] = {}
    choice: Choice | None = None
    pins: dict[str, Plan] = {}
    memory: MemoryRecord = MemoryRecord()
    speeds: SpeedRecord = SpeedRecord()
    demand: Demand = Demand()
    presence: Presence = Presence.IDLE
    is_join_wanted: bool = False
    joined_at: float | None = None
    idle_since: float | None = None
    peer_id: str = ""
    addresses: tuple[str, ...] = ()
    peers: int = 0
    peers_seen: PeersSeen = PeersSeen()
    pause: Pause | None = None
    progress: Progress | None = None
    trouble: dict[str, str] = {}
    worker: e.WorkerStarted | None = None
    jobs: dict[JobId, Job] = {}
    ended: tuple[Job, ...] = ()
    declined: int = 0
    total: Served = Served()
    days: dict[int, Served] = {}
    samples: tuple[Sample, ...] = ()
    ledger: Ledger = Ledger()
    account: e.AccountRead | None = None
