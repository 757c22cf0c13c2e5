"""`apply`: the only way that state changes. The engine, the window and the command line run the same one.

Never raises, never reads a clock: an event that fits nothing known leaves the state as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from msgspec.structs import replace as _replace

from core import events as e
from core.job_history import apply_job, credit_job
from core.node_state import NodeState, Pause, Presence, Progress, Sample
from core.payments import ledger
from core.peer_seen import PeersSeen
from core.plan import Plan
from core.speed_record import MeasuredRun, bench_runs

MAX_SAMPLES = 600

Observation = (
    e.EngineStarted
    | e.MachineFound
    | e.DeviceRead
    | e.WorkProgressed
    | e.ThroughputMeasured
    | e.TroubleFound
    | e.AccountRead
)
Measurement = e.BenchmarkFinished | e.DevicesMeasured | e.SpeedMeasured | e.LoadMeasured | e.MemoryRanOut
PresenceEvent = (
    e.JoinRequested
    | e.LeaveRequested
    | e.NetworkJoined
    | e.NetworkLeft
    | e.WorkerStarted
    | e.WorkerDied
    | e.PeersCounted
    | e.PeersListed
    | Observation
)


def apply(state: NodeState, event: e.Event) -> NodeState:
    """The state after this event. Total over Event; order of unrelated events does not matter."""
    match event:
        case e.JobQueued() | e.JobStarted() | e.JobProgressed() | e.JobEnded():
            return apply_job(state, event)
        case e.JobAsked() | e.JobDeclined() | e.QueueOrdered():
            return apply_job(state, event)
        case e.VoucherAccepted():
            return _with_voucher(state, event)
        case e.RedemptionSubmitted() | e.RedemptionConfirmed() | e.TransactionFailed():
            return _replace(state, ledger=_redeem(state.ledger, event))
        case e.PayoutSubmitted():
            return _replace(state, ledger=ledger.submit_payout(state.ledger, event))
        case e.PayoutConfirmed():
            return _replace(state, ledger=ledger.confirm_payout(state.ledger, event))
        case e.NetworkNamed():
            return _replace(state, network=event)
        case e.BenchmarkFinished() | e.DevicesMeasured() | e.SpeedMeasured() | e.LoadMeasured() | e.MemoryRanOut():
            return _apply_measurement(state, event)
        case e.ModelAdded():
            return _replace(state, models={**state.models, event.card.model: event.card})
        case e.ModelRemoved():
            models = {m: c for m, c in state.models.items() if m != event.model}
            return _replace(state, models=models, pins=_unpinned(state, event.model))
        case e.PlanChosen():
            return _replace(state, choice=event.choice)
        case e.PlanPinned():
            return _replace(state, pins={**state.pins, event.plan.model: event.plan})
        case e.PlanUnpinned():
            return _replace(state, pins=_unpinned(state, event.model))
        case e.WorkPaused():
            return _replace(state, pause=Pause(event.reason, event.at, event.until))
        case e.WorkResumed():
            return _replace(state, pause=None, idle_since=event.at)
        case _:
            return _apply_presence(state, event)


def accruing(state: NodeState) -> int:
    """What live jobs have served beyond what was vouchered for them, in smallest units."""
    return sum(max(0, job.amount - job.vouchered) for job in state.jobs.values())


def earnings(state: NodeState) -> ledger.Earnings:
    """The five states of the owner's money."""
    return ledger.earnings(state.ledger, accruing(state))


def _apply_measurement(state: NodeState, event: Measurement) -> NodeState:
    match event:
        case e.BenchmarkFinished():
            known = _with_runs(state, bench_runs(event.benchmark, state.models))
            return _replace(known, benchmark=event.benchmark, progress=None)
        case e.DevicesMeasured():
            runs = [run for benchmark in event.benchmarks for run in bench_runs(benchmark, state.models)]
            return _replace(_with_runs(state, runs), measured=event.benchmarks, progress=None)
        case e.SpeedMeasured():
            return _with_runs(state, (event.run,))
        case e.LoadMeasured():
            return _replace(state, memory=state.memory.with_load(event.load))
        case e.MemoryRanOut():
            return _replace(state, memory=state.memory.with_failure(event.failure))
        case _:
            assert_never(event)


def _apply_presence(state: NodeState, event: PresenceEvent) -> NodeState:
    match event:
        case e.JoinRequested():
            return _replace(state, is_join_wanted=True, presence=Presence.JOINING)
        case e.LeaveRequested():
            is_in = state.presence is not Presence.IDLE
            return _replace(state, is_join_wanted=False, presence=Presence.LEAVING if is_in else Presence.IDLE)
        case e.NetworkJoined():
            return _joined(state, event)
        case e.NetworkLeft():
            presence = Presence.JOINING if state.is_join_wanted else Presence.IDLE
            return _replace(_without_network(state), presence=presence)
        case e.WorkerStarted():
            return _replace(state, worker=event, trouble=_without(state.trouble, "worker"))
        case e.WorkerDied():
            sentence = f"The worker stopped: {event.reason} It starts again in {event.retry_s:.0f} s."
            return _replace(state, worker=None, trouble={**state.trouble, "worker": sentence})
        case e.PeersCounted():
            return _replace(state, peers=event.peers)
        case e.PeersListed():
            return _replace(state, peers_seen=event.seen)
        case _:
            return _apply_observation(state, event)


def _apply_observation(state: NodeState, event: Observation) -> NodeState:
    match event:
        case e.EngineStarted():
            return _restarted(state, event.at)
        case e.MachineFound():
            return _replace(state, machine=event.machine)
        case e.DeviceRead():
            return _replace(state, reading=event.reading)
        case e.WorkProgressed():
            progress = None if event.fraction >= 1.0 else Progress(event.work, event.fraction, event.text)
            return _replace(state, progress=progress)
        case e.ThroughputMeasured():
            sample = Sample(event.at, event.tokens_per_s, event.jobs)
            return _replace(state, samples=(*state.samples[-(MAX_SAMPLES - 1) :], sample))
        case e.TroubleFound():
            rest = _without(state.trouble, event.place)
            return _replace(state, trouble={**rest, event.place: event.sentence} if event.sentence else rest)
        case e.AccountRead():
            return _replace(state, account=event)
        case _:
            assert_never(event)


def _redeem(
    book: ledger.Ledger, event: e.RedemptionSubmitted | e.RedemptionConfirmed | e.TransactionFailed
) -> ledger.Ledger:
    match event:
        case e.RedemptionSubmitted():
            return ledger.submit_redemption(book, event)
        case e.RedemptionConfirmed():
            return ledger.confirm_redemption(book, event)
        case e.TransactionFailed():
            return ledger.fail_transaction(book, event)
        case _:
            assert_never(event)


def _with_runs(state: NodeState, runs: Sequence[MeasuredRun]) -> NodeState:
    speeds = state.speeds
    for run in runs:
        speeds = speeds.with_run(run)
    return _replace(state, speeds=speeds)


def _unpinned(state: NodeState, model: str) -> dict[str, Plan]:
    return {kept: plan for kept, plan in state.pins.items() if kept != model}


def _with_voucher(state: NodeState, event: e.VoucherAccepted) -> NodeState:
    state = _replace(state, ledger=ledger.add_voucher(state.ledger, event))
    return credit_job(state, event)


def _joined(state: NodeState, event: e.NetworkJoined) -> NodeState:
    return _replace(
        state,
        presence=Presence.JOINED,
        joined_at=event.at,
        idle_since=event.at,
        peer_id=event.peer_id,
        addresses=event.addresses,
        progress=None,
    )


def _restarted(state: NodeState, now: float) -> NodeState:
    """Jobs that were live when the last engine stopped are lost: their fact comes from the engine's recovery."""
    presence = Presence.JOINING if state.is_join_wanted else Presence.IDLE
    fresh = _replace(_without_network(state), presence=presence)
    fresh = _replace(fresh, machine=None, reading=None, trouble={}, samples=())
    return _replace(fresh, pause=_still_running(state.pause, now))


def _without_network(state: NodeState) -> NodeState:
    """Nobody is connected and nothing is loaded."""
    fresh = _replace(state, joined_at=None, idle_since=None, progress=None, worker=None, addresses=())
    return _replace(fresh, peers=0, peers_seen=PeersSeen())


def _still_running(pause: Pause | None, now: float) -> Pause | None:
    return pause if pause is not None and (pause.until is None or pause.until > now) else None


def _without(trouble: dict[str, str], place: str) -> dict[str, str]:
    return {where: sentence for where, sentence in trouble.items() if where != place}
