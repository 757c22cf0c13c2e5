"""Everything that happened, past tense and immutable. Facts are journalled and survive a crash; Notices need not.

Never carries a prompt, an answer, a key or a token of ours. `at` is seconds since the epoch.
"""

from __future__ import annotations

import msgspec

from core.device import Benchmark, Machine, Reading
from core.job import JobId, JobState, JobTerms, Price, Timing, Usage
from core.memory import FailedLoad, MeasuredLoad
from core.model_card import ModelCard
from core.peer_seen import PeersSeen
from core.plan import Choice, Plan
from core.speed_record import MeasuredRun


class NetworkNamed(msgspec.Struct, frozen=True, tag="network_named"):
    """Which network this home belongs to, and how its money is written."""

    at: float
    network: str
    chain_id: int
    escrow: str
    token: str
    symbol: str
    decimals: int
    owner: str
    hot: str


class BenchmarkFinished(msgspec.Struct, frozen=True, tag="benchmark_finished"):
    """The machine measured itself."""

    at: float
    benchmark: Benchmark


class DevicesMeasured(msgspec.Struct, frozen=True, tag="devices_measured"):
    """Every device was measured with made-up models, the best one first."""

    at: float
    benchmarks: tuple[Benchmark, ...]


class ModelAdded(msgspec.Struct, frozen=True, tag="model_added"):
    """A model, or a new variant of it, is in the store."""

    at: float
    card: ModelCard


class ModelRemoved(msgspec.Struct, frozen=True, tag="model_removed"):
    """A model's files are gone from the store."""

    at: float
    model: str


class PlanChosen(msgspec.Struct, frozen=True, tag="plan_chosen"):
    """The meta-model picked how to serve, and says why."""

    at: float
    choice: Choice


class PlanPinned(msgspec.Struct, frozen=True, tag="plan_pinned"):
    """The owner keeps this plan for its model."""

    at: float
    plan: Plan


class PlanUnpinned(msgspec.Struct, frozen=True, tag="plan_unpinned"):
    """The owner lets the plan of this model be chosen again."""

    at: float
    model: str


class LoadMeasured(msgspec.Struct, frozen=True, tag="load_measured"):
    """How much memory a plan takes on a device, counted before or at its load."""

    at: float
    load: MeasuredLoad


class MemoryRanOut(msgspec.Struct, frozen=True, tag="memory_ran_out"):
    """A plan did not load for want of memory; it is not tried again with no more free memory, restarts included."""

    at: float
    failure: FailedLoad


class SpeedMeasured(msgspec.Struct, frozen=True, tag="speed_measured"):
    """How fast a plan was here, in a finished job or on trial. Only the newest few thousand of these facts are kept."""

    at: float
    run: MeasuredRun


class JoinRequested(msgspec.Struct, frozen=True, tag="join_requested"):
    """The owner wants this machine in the network; kept, so that a restart joins again."""

    at: float


class LeaveRequested(msgspec.Struct, frozen=True, tag="leave_requested"):
    """The owner wants this machine out of the network."""

    at: float


class WorkPaused(msgspec.Struct, frozen=True, tag="work_paused"):
    """No new job until `until` (None: until resumed)."""

    at: float
    reason: str
    until: float | None = None


class WorkResumed(msgspec.Struct, frozen=True, tag="work_resumed"):
    """The pause ended."""

    at: float


class JobQueued(msgspec.Struct, frozen=True, tag="job_queued"):
    """A job was accepted at this price from this payer (its party id) at this peer."""

    at: float
    terms: JobTerms
    price: Price
    payer: str
    peer: str


class JobEnded(msgspec.Struct, frozen=True, tag="job_ended"):
    """A job reached its one last state; amount is what its delivered tokens cost."""

    at: float
    job_id: JobId
    state: JobState
    reason: str
    usage: Usage
    amount: int
    timing: Timing = Timing()


class VoucherAccepted(msgspec.Struct, frozen=True, tag="voucher_accepted"):
    """A payer signed a new cumulative amount, durable before the work; redeemed: what the chain had cashed by then."""

    at: float
    job_id: JobId
    payer: str
    payer_owner: str
    payer_hot: str
    cumulative: int
    signature: str
    added: int
    is_secured: bool = True
    redeemed: int = 0


class RedemptionSubmitted(msgspec.Struct, frozen=True, tag="redemption_submitted"):
    """A transaction that cashes vouchers was signed and written down, then sent."""

    at: float
    transaction: str
    amount: int
    claims: dict[str, int]
    nonce: int = 0


class RedemptionConfirmed(msgspec.Struct, frozen=True, tag="redemption_confirmed"):
    """The chain paid a redemption: paid went to our escrow account; redeemed is each payer's new cumulative total."""

    at: float
    transaction: str
    paid: int
    block: int
    redeemed: dict[str, int] = {}


class TransactionFailed(msgspec.Struct, frozen=True, tag="transaction_failed"):
    """A transaction of ours was reverted or dropped; what it would have moved is where it was."""

    at: float
    transaction: str
    reason: str


class PayoutSubmitted(msgspec.Struct, frozen=True, tag="payout_submitted"):
    """A payout to the owner's address was sent."""

    at: float
    transaction: str
    amount: int


class PayoutConfirmed(msgspec.Struct, frozen=True, tag="payout_confirmed"):
    """The escrow paid this much to the owner's address."""

    at: float
    transaction: str
    amount: int
    block: int


Fact = (
    NetworkNamed
    | BenchmarkFinished
    | DevicesMeasured
    | ModelAdded
    | ModelRemoved
    | PlanChosen
    | PlanPinned
    | PlanUnpinned
    | LoadMeasured
    | MemoryRanOut
    | SpeedMeasured
    | JoinRequested
    | LeaveRequested
    | WorkPaused
    | WorkResumed
    | JobQueued
    | JobEnded
    | VoucherAccepted
    | RedemptionSubmitted
    | RedemptionConfirmed
    | TransactionFailed
    | PayoutSubmitted
    | PayoutConfirmed
)


class EngineStarted(msgspec.Struct, frozen=True, tag="engine_started"):
    """The engine is up; whatever was under way when the last one stopped is not."""

    at: float


class MachineFound(msgspec.Struct, frozen=True, tag="machine_found"):
    """The hardware was looked at."""

    at: float
    machine: Machine


class DeviceRead(msgspec.Struct, frozen=True, tag="device_read"):
    """One reading of the hardware that serves."""

    reading: Reading


class WorkProgressed(msgspec.Struct, frozen=True, tag="work_progressed"):
    """Long work moved on: benchmark, quantizing, loading, joining. fraction 0 to 1."""

    at: float
    work: str
    fraction: float
    text: str


class NetworkJoined(msgspec.Struct, frozen=True, tag="network_joined"):
    """Our offer is in the swarm."""

    at: float
    peer_id: str
    addresses: tuple[str, ...]


class NetworkLeft(msgspec.Struct, frozen=True, tag="network_left"):
    """Our offer is withdrawn and the model unloaded."""

    at: float


class PeersCounted(msgspec.Struct, frozen=True, tag="peers_counted"):
    """How many peers we are connected to."""

    at: float
    peers: int


class PeersListed(msgspec.Struct, frozen=True, tag="peers_listed"):
    """Whom we are connected to, and whom else we know."""

    seen: PeersSeen


class JobStarted(msgspec.Struct, frozen=True, tag="job_started"):
    """A job left the queue for the worker; its prompt is being read."""

    at: float
    job_id: JobId


class JobProgressed(msgspec.Struct, frozen=True, tag="job_progressed"):
    """A job's prompt was read and tokens are coming; amount is what they cost so far."""

    at: float
    job_id: JobId
    usage: Usage
    amount: int
    tokens_per_s: float


class JobAsked(msgspec.Struct, frozen=True, tag="job_asked"):
    """Somebody asked what a job would cost here, whether or not it comes to us; output_tokens: how many are likely."""

    at: float
    job_id: JobId
    prompt_tokens: int
    output_tokens: int


class JobDeclined(msgspec.Struct, frozen=True, tag="job_declined"):
    """A job was refused before it was taken, and why."""

    at: float
    terms: JobTerms
    reason: str


class QueueOrdered(msgspec.Struct, frozen=True, tag="queue_ordered"):
    """The waiting jobs in the order in which they will be taken, with why."""

    at: float
    places: tuple[tuple[JobId, str], ...]


class ThroughputMeasured(msgspec.Struct, frozen=True, tag="throughput_measured"):
    """Completion tokens per second over the last sampling interval, all jobs together."""

    at: float
    tokens_per_s: float
    jobs: int


class WorkerStarted(msgspec.Struct, frozen=True, tag="worker_started"):
    """A worker has the model in memory; sandbox says what it is kept from, and why not from more."""

    at: float
    model: str
    quantization: str
    load_s: float
    memory_bytes: int
    device_bytes: dict[str, int] = {}
    sandbox: str = ""


class WorkerDied(msgspec.Struct, frozen=True, tag="worker_died"):
    """A worker ended without being told to; it is started again after retry_s."""

    at: float
    reason: str
    retry_s: float


class TroubleFound(msgspec.Struct, frozen=True, tag="trouble_found"):
    """Something needs the owner's eye: where (chain, swarm, disk, worker) and one plain sentence; empty: it is over."""

    at: float
    place: str
    sentence: str


class AccountRead(msgspec.Struct, frozen=True, tag="account_read"):
    """What the escrow's own account of ours says, and the owner's token balance."""

    at: float
    earned: int
    owner_balance: int
    block: int


Notice = (
    EngineStarted
    | MachineFound
    | DeviceRead
    | WorkProgressed
    | NetworkJoined
    | NetworkLeft
    | PeersCounted
    | PeersListed
    | JobStarted
    | JobProgressed
    | JobAsked
    | JobDeclined
    | QueueOrdered
    | ThroughputMeasured
    | WorkerStarted
    | WorkerDied
    | TroubleFound
    | AccountRead
)

Event = Fact | Notice
