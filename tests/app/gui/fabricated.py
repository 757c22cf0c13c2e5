"""A made-up node for the tests of the window: a sequence of real events, folded by the real `apply`."""

from __future__ import annotations

import math

from core import events as e
from core.device import Benchmark, Device, DeviceKind, Machine, Reading
from core.job import JobId, JobState, JobTerms, Price, PriorityClass, Timing, Usage
from core.model_card import ModelCard
from core.node_state import NodeState
from core.plan import Choice, Estimate, Plan
from core.state import apply

NOON = 1_763_942_400.0 + 43_200.0 + 7_391.0
DAY_S = 86_400.0
GIB = 1 << 30
OWNER = "0x7a3f09d1c2b4e5f60718293a4b5c6d7e8f90c41e"
GPU = Device("GPU-0", "NVIDIA GeForce RTX 4090", DeviceKind.GPU, "CUDA", 24 * GIB, 22 * GIB)
QWEN, LLAMA, GEMMA = "qwen3-8b", "llama-3.1-8b", "gemma-3-12b"
TITLES = {QWEN: "Qwen3 8B", LLAMA: "Llama 3.1 8B", GEMMA: "Gemma 3 12B"}
PRICE = Price(200_000, 400_000)


def fold(events: list[e.Event], state: NodeState | None = None) -> NodeState:
    state = state if state is not None else NodeState()
    for event in events:
        state = apply(state, event)
    return state


def card(model: str) -> ModelCard:
    return ModelCard(
        model, TITLES[model], "qwen3", 8_000_000_000, 36, 4096, 12288, 32, 8, 2048, 151_936, 40_960, "ab" * 32, "F16"
    )


def found() -> list[e.Event]:
    """An engine that looked at its machine and knows its network."""
    return [
        e.NetworkNamed(NOON, "devnet", 1337, "0xe5", "0x70", "USDC", 6, OWNER, "0x11"),
        e.EngineStarted(NOON - 16_000),
        e.MachineFound(NOON, Machine((GPU,), 16, 64 * GIB, "llama.cpp")),
        e.DeviceRead(Reading(NOON, 2.0, int(1.1 * GIB), 24 * GIB, 0, 22.0, 320.0, 38.0)),
        *(e.ModelAdded(NOON, card(model)) for model in TITLES),
    ]


def measured() -> list[e.Event]:
    """And measured itself and chose its plan."""
    plan = Plan(QWEN, "llama.cpp", "Q5_K_M", 4, 4096, gpu_layers=36, device_id="GPU-0")
    estimate = Estimate(2_900.0, 58.0, 51.0, 64.0, 0.2, 9 * GIB, True, reward_per_hour=62_000.0)
    benchmark = Benchmark(
        NOON, GPU, "llama.cpp", 870.0, 82.0, QWEN, "Q5_K_M", 6 * GIB, 2_900.0, 58.0, {1: 58.0, 2: 98.0, 4: 148.0}
    )
    reason = "Q5_K_M with 4 slots earns most here: about 58 tok/s for one job, at least 51."
    return [
        *found(),
        e.BenchmarkFinished(NOON, benchmark),
        e.PlanChosen(NOON, Choice(plan, estimate, reason, candidates=18, measured_decode_tokens_per_s=58.0)),
    ]


def joining() -> list[e.Event]:
    """On its way in."""
    text = "Loading Qwen3 8B · Q5_K_M into GPU memory, about 20 seconds left."
    return [*measured(), e.JoinRequested(NOON), e.WorkProgressed(NOON, "load", 0.62, text)]


def waiting() -> list[e.Event]:
    """In the network, without a job."""
    return [
        *measured(),
        e.JoinRequested(NOON - 15_200),
        e.WorkerStarted(NOON - 15_130, QWEN, "Q5_K_M", 6.0, int(17.3 * GIB)),
        e.NetworkJoined(NOON - 15_120, "12D3KooWExampleExampleExamplePeer", ("/ip4/192.168.1.7/tcp/4001",)),
        e.PeersCounted(NOON, 38),
        e.DeviceRead(Reading(NOON, 87.0, int(18.4 * GIB), 24 * GIB, int(17.3 * GIB), 286.0, 320.0, 71.0)),
    ]


def terms(job_id: str, model: str, priority: PriorityClass, *, deadline_s: float, max_tokens: int) -> JobTerms:
    return JobTerms(JobId(job_id), model, priority, deadline_s=deadline_s, max_tokens=max_tokens)


def served(number: int, at: float, model: str, amount: int) -> list[e.Event]:
    """One job from its queue to its end."""
    ask = terms(f"old-{number}", model, PriorityClass.STANDARD, deadline_s=30.0, max_tokens=512)
    timing = Timing(0.3, 5_000.0, 0.4, 2.0)
    job_id = ask.job_id
    return [
        e.JobQueued(at - 9.0, ask, PRICE, "0xpayer", "peer"),
        e.VoucherAccepted(at, job_id, f"0x{number}", "0xo", "0xh", amount, "0xs", amount),
        e.JobEnded(at, job_id, JobState.FINISHED, "stop", Usage(900, 410), amount, timing),
    ]


def history() -> list[e.Event]:
    """A month of work, with redemptions and a withdrawal."""
    happened: list[e.Event] = []
    for day in range(29, -1, -1):
        at = NOON - day * DAY_S - 3_000
        level = 0.25 if day in (23, 22, 10) else 0.8 + 0.35 * math.sin(day * 1.7) + 0.02 * (30 - day)
        for number, (model, share) in enumerate(((QWEN, 0.56), (LLAMA, 0.29), (GEMMA, 0.15))):
            happened += served(1000 + 3 * day + number, at + 300 * number, model, int(level * share * 1_300_000))
    for number in range(12):
        happened += served(number, NOON - 2_400 + 190 * number, (QWEN, LLAMA)[number % 3 == 0], 31_000 + 900 * number)
    return happened


def transactions() -> list[e.Event]:
    """Two payments through, a withdrawal, one payment on its way."""
    happened: list[e.Event] = []
    lanes = [(1000 + number, amount) for number, amount in _old_amounts()]
    for hash_, ago, some in (("0x91f3aa0011226e02", 90_000, lanes[:60]), ("0x4be1aa00112290af", 7_200, lanes[60:76])):
        claims = {f"0x{number}": amount for number, amount in some}
        happened.append(e.RedemptionSubmitted(NOON - ago, hash_, sum(claims.values()), claims))
        happened.append(e.RedemptionConfirmed(NOON - ago + 10, hash_, sum(claims.values()), 90, claims))
    claims = {f"0x{number}": amount for number, amount in lanes[76:82]}
    happened.append(e.PayoutSubmitted(NOON - 70_000, "0xd02caa0011221b77", 20_000_000))
    happened.append(e.PayoutConfirmed(NOON - 69_990, "0xd02caa0011221b77", 20_000_000, 95))
    happened.append(e.RedemptionSubmitted(NOON - 60, "0x77aaaa001122beef", sum(claims.values()), claims))
    return happened


def _old_amounts() -> list[tuple[int, int]]:
    amounts = [(event.payer, event.cumulative) for event in history() if isinstance(event, e.VoucherAccepted)]
    return [(int(payer[2:]) - 1000, amount) for payer, amount in amounts if int(payer[2:]) >= 1000]


def live() -> list[e.Event]:
    """Three running jobs and four that wait."""
    interactive, standard, batch = PriorityClass.INTERACTIVE, PriorityClass.STANDARD, PriorityClass.BATCH
    asked = (
        (terms("j-8f2c91a044de", QWEN, interactive, deadline_s=20.0, max_tokens=1024), NOON - 9.0),
        (terms("j-1b7e02c9aa10", QWEN, standard, deadline_s=25.0, max_tokens=1000), NOON - 7.0),
        (terms("j-5d0f64b3ee92", QWEN, interactive, deadline_s=2.0, max_tokens=512), NOON - 1.4),
        (terms("j-7c2a0d9911f0", QWEN, interactive, deadline_s=3.0, max_tokens=512), NOON - 0.6),
        (terms("j-2e2e0d9911f1", QWEN, standard, deadline_s=15.0, max_tokens=512), NOON - 1.0),
        (terms("j-3f1a0d9911f2", QWEN, batch, deadline_s=14_000.0, max_tokens=512), NOON - 60),
        (terms("j-4d1a0d9911f3", QWEN, batch, deadline_s=22_000.0, max_tokens=512), NOON - 90),
    )
    started = [JobId("j-8f2c91a044de"), JobId("j-1b7e02c9aa10"), JobId("j-5d0f64b3ee92")]
    why = "Interactive jobs run first; the price breaks ties."
    places = tuple((ask.job_id, why) for ask, _ in asked[3:])
    return [
        *(e.JobQueued(at, ask, PRICE, "0xb0b0000000000000000000000000000000000b0b", "peer") for ask, at in asked),
        *(e.JobStarted(NOON - 1.0, job_id) for job_id in started),
        e.JobProgressed(NOON - 8.6, started[0], Usage(1882, 1), 380, 58.0),
        e.JobProgressed(NOON, started[0], Usage(1882, 634), 631, 58.0),
        e.JobProgressed(NOON, started[1], Usage(600, 287), 235, 51.0),
        e.JobDeclined(
            NOON - 500, terms("j-no", GEMMA, batch, deadline_s=9, max_tokens=9), "This model is not served here."
        ),
        e.QueueOrdered(NOON, places),
    ]


def samples() -> list[e.Event]:
    """Ten minutes of throughput."""
    return [
        e.ThroughputMeasured(NOON - 600 + second, _wave(second), 3 if second % 90 else 4) for second in range(0, 601, 4)
    ]


def serving() -> NodeState:
    """A busy node with a past."""
    return fold([*waiting(), *history(), *transactions(), *live(), *samples()])


def _wave(second: float) -> float:
    dip = 22.0 * math.exp(-(((second - 360) / 70) ** 2))
    return 132.0 + 18.0 * math.sin(second / 70) + 9.0 * math.sin(second / 13) - dip
