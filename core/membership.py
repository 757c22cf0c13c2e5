"""One stay in the network, from Join to Leave: prepare, load, announce, serve, drain.

Never outlives its owner's wish: cancelling `run` withdraws the offer and ends the worker, in that order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from core import events as e
from core.availability import Available, Circumstances, Paused, availability
from core.device import DeviceKind
from core.explorer import Explorer, ExplorerPorts, attempt
from core.job import Price
from core.job_desk import DeskPorts, JobDesk
from core.journal import Journal
from core.lane_book import Terms
from core.learning import Learning
from core.model_server import LoadFailed, ModelServer
from core.offer import Offer
from core.payments.settlement import Settlement
from core.plan import Estimate
from core.preparation import LOOK_FRESH_S, Preparation, Prepared
from core.pricing import Costs, next_price
from core.probe import is_on_battery
from core.trouble import first_of
from core.worker.messages import Fault, FaultKind

OFFER_LIFE_S = 120.0
OFFER_EVERY_S = 40.0
SAMPLE_S = 1.0
LEAVE_TIMEOUT_S = 5.0
DRAIN_TIMEOUT_S = 600.0
LOAD_ATTEMPTS = 3
# The old worker's memory is free, and is looked at anew.
RENEW_PAUSE_S = LOOK_FRESH_S + 1.0


class Joined(msgspec.Struct, frozen=True):
    """Who and where we are in the swarm."""

    peer_id: str
    addresses: tuple[str, ...]


class SwarmPort(Protocol):
    """What a membership needs of the swarm."""

    async def run(
        self, desk: JobDesk, offer: Callable[[str], Offer], *, task_status: trio.TaskStatus[Joined]
    ) -> None:
        """Join, answer job streams with the desk and keep the offer (made for our id) announced, until cancelled."""

    async def withdraw(self) -> None:
        """Offer nothing more for the rest of this stay, and say so to our neighbours. Bounded in time."""

    async def settle(self) -> None:
        """Until the last words of all jobs are said and paid for, or it has been waited for long enough."""

    def peers(self) -> int:
        """How many peers we are connected to."""


class MembershipParts(msgspec.Struct, frozen=True):
    """What a membership is built of."""

    journal: Journal
    preparation: Preparation
    swarm: SwarmPort
    terms: Terms
    settlement: Settlement
    log: Path


class Membership:
    """Serves one model while it runs. One instance a stay."""

    def __init__(self, parts: MembershipParts, model: str) -> None:
        self._parts = parts
        self._model = model
        self._sequence = 0
        self._is_draining = False
        self._is_renewing = False
        self._renewal = trio.CancelScope()
        self._rule = ""
        self._price: Price | None = None
        self._learning: Learning | None = None
        self.desk: JobDesk | None = None

    async def run(self) -> None:
        """Until cancelled. Raises CannotServe, LoadFailed or what the swarm and the model store raise."""
        journal = self._parts.journal
        journal.announce(e.WorkProgressed(time.time(), "Joining the network", 0.1, "Looking at this computer"))
        try:
            attempts = 0
            while True:
                prepared = await self._parts.preparation.prepare(self._model)
                failure = await self._served_or_failed(prepared)
                if failure is None:
                    await trio.sleep(RENEW_PAUSE_S)
                    continue
                attempts += 1
                await self._remember(prepared, failure, is_last=attempts == LOAD_ATTEMPTS)
        finally:
            journal.announce(e.NetworkLeft(time.time()))

    async def drain(self) -> None:
        """Take nothing new, take the offer back, and wait for what runs, within a bound."""
        self._is_draining = True
        await self._parts.swarm.withdraw()
        with trio.move_on_after(DRAIN_TIMEOUT_S):
            while self.desk is not None and self.desk.live:
                await trio.sleep(0.1)
        await self._parts.swarm.settle()

    async def stop_jobs(self, reason: str) -> None:
        """Cancel every job and give the ends a moment to reach their requesters."""
        self._is_draining = True
        await self._parts.swarm.withdraw()
        if self.desk is None:
            return
        await self.desk.cancel_all(reason)
        with trio.move_on_after(LEAVE_TIMEOUT_S):
            while self.desk.live:
                await trio.sleep(0.05)
            await self._parts.swarm.settle()

    async def _served_or_failed(self, prepared: Prepared) -> LoadFailed | None:
        """Serve until cancelled; returns only when the model did not load, or None for another plan to be served."""
        failures: list[LoadFailed] = []
        with trio.CancelScope() as self._renewal:
            try:
                await self._serve(prepared)
            except* LoadFailed as group:
                failures.append(first_of(group))
        if self._renewal.cancelled_caught:
            self._is_renewing = False
            return None
        return failures[0] if failures else LoadFailed(Fault(FaultKind.INTERNAL, "Serving ended by itself."))

    async def _renew(self, prepared: Prepared) -> None:
        """After a round of trials: where another plan is better by far, take nothing new, and change over to it."""
        if not await self._parts.preparation.is_outdone(prepared):
            return
        self._is_renewing = True
        with trio.move_on_after(DRAIN_TIMEOUT_S):
            while self.desk is not None and self.desk.live:
                await trio.sleep(0.1)
            self._renewal.cancel()
            return
        self._is_renewing = False  # a long job goes on; the next round of trials asks again

    async def _serve(self, prepared: Prepared) -> None:
        journal = self._parts.journal
        card, choice = prepared.card, prepared.choice
        text = f"Loading {card.title} · {choice.plan.quantization}"
        journal.announce(e.WorkProgressed(time.time(), "Joining the network", 0.6, text))
        server = ModelServer(journal, choice, path=prepared.path, log=self._parts.log)
        limit_c = self._parts.terms.settings.max_temperature_c
        learning = self._learning = Learning(journal, server, choice=choice, card=card, limit_c=limit_c)
        settlement = self._parts.settlement
        ports = DeskPorts(
            refusal=self._refusal,
            price=lambda: self._price or self._next_price(prepared),
            channel=settlement.channel,
            fresh_channel=settlement.fresh_channel,
            clock=time.time,
        )
        desk = JobDesk(journal, server, terms=self._parts.terms, ports=ports)
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run, desk.handle)
            await self._parts.preparation.learn(prepared)
            self.desk = desk
            nursery.start_soon(desk.run)
            nursery.start_soon(desk.watch_stalls)
            nursery.start_soon(learning.run)
            journal.announce(e.WorkProgressed(time.time(), "Joining the network", 0.8, "Looking for peers"))
            joined: Joined = await nursery.start(self._run_swarm, desk, prepared)
            journal.announce(e.NetworkJoined(time.time(), joined.peer_id, joined.addresses))
            nursery.start_soon(self._sample, desk)
            if self._parts.terms.settings.explore_when_idle:
                nursery.start_soon(self._explorer(prepared).run)

    def _explorer(self, prepared: Prepared) -> Explorer:
        ports = ExplorerPorts(
            trials=lambda: self._parts.preparation.trials(prepared),
            is_welcome=lambda: isinstance(self._availability(), Available) and not self._is_draining,
            attempt=attempt,
            explored=lambda: self._renew(prepared),
        )
        return Explorer(self._parts.journal, ports, limit_c=self._parts.terms.settings.max_temperature_c)

    async def _run_swarm(
        self, desk: JobDesk, prepared: Prepared, *, task_status: trio.TaskStatus[Joined]
    ) -> None:
        await self._parts.swarm.run(desk, lambda peer_id: self._offer(prepared, peer_id), task_status=task_status)

    async def _sample(self, desk: JobDesk) -> None:
        before, peers = desk.tokens_made, -1
        while True:
            await trio.sleep(SAMPLE_S)
            made, before = desk.tokens_made - before, desk.tokens_made
            now = time.time()
            self._parts.journal.announce(e.ThroughputMeasured(now, made / SAMPLE_S, desk.live))
            if (found := self._parts.swarm.peers()) != peers:
                peers = found
                self._parts.journal.announce(e.PeersCounted(now, peers))
            await self._heed_rules(desk)

    async def _heed_rules(self, desk: JobDesk) -> None:
        """Battery, heat, other programs' memory: say when a rule begins or ends; give up what runs if it must be."""
        found = self._availability()
        rule = found if isinstance(found, Paused) and self._parts.journal.state.pause is None else None
        reason = rule.reason if rule is not None and not self._is_draining else ""
        if reason != self._rule:
            self._rule = reason
            self._parts.journal.announce(e.TroubleFound(time.time(), "rule", reason))
        if rule is not None and rule.is_over_limit:
            await desk.cancel_all(rule.reason)

    def _availability(self) -> Available | Paused:
        state = self._parts.journal.state
        circumstances = Circumstances(
            presence=state.presence,
            pause=state.pause,
            reading=state.reading,
            is_on_battery=is_on_battery(),
            is_cooling=self._rule.startswith("Cooling"),
            plan_bytes=0,
            kind=state.benchmark.device.kind if state.benchmark is not None else DeviceKind.CPU,
        )
        return availability(circumstances, self._parts.terms.settings, now=time.time())

    def _refusal(self) -> str | None:
        if self._is_draining:
            return "This peer is leaving the network."
        if self._is_renewing:
            return "This peer is changing over to another plan."
        found = self._availability()
        return f"This peer is paused. {found.reason}" if isinstance(found, Paused) else None

    def _next_price(self, prepared: Prepared) -> Price:
        """One step of the posted price, at each renewal of the offer."""
        desk, settings = self.desk, self._parts.terms.settings
        reading = self._parts.journal.state.reading
        costs = Costs(
            floor_per_mtok=settings.floor_per_mtok,
            tariff_per_kwh=settings.tariff_per_kwh,
            power_w=reading.power_w or 0.0 if reading is not None else 0.0,
            tokens_per_s=self._estimate(prepared).decode_low_tokens_per_s,
        )
        busy = desk.live / prepared.choice.plan.slots if desk is not None else 0.0
        self._price = next_price(self._price, costs, utilisation=busy)
        return self._price

    def _estimate(self, prepared: Prepared) -> Estimate:
        """What the plan does by what jobs have shown since it was loaded."""
        return prepared.choice.estimate if self._learning is None else self._learning.estimate

    def _offer(self, prepared: Prepared, peer_id: str) -> Offer:
        self._sequence += 1
        now = time.time()
        estimate, plan, worker = self._estimate(prepared), prepared.choice.plan, self._parts.terms.worker
        return Offer(
            peer_id=peer_id,
            model=plan.model,
            source_sha256=prepared.card.source_sha256,
            quantization=plan.quantization,
            price=self._next_price(prepared),
            prefill_tokens_per_s=estimate.prefill_tokens_per_s,
            decode_tokens_per_s=estimate.decode_low_tokens_per_s,
            slots=plan.slots,
            context_tokens=plan.slot_context_tokens,
            worker_owner=worker.owner,
            worker_hot=worker.hot,
            issued_at=now,
            expires_at=now + OFFER_LIFE_S,
            sequence=int(now * 1000) + self._sequence,
        )

    async def _remember(self, prepared: Prepared, failure: LoadFailed, *, is_last: bool) -> None:
        """An out-of-memory makes the next choice a smaller plan; anything else is final."""
        if failure.fault.kind is not FaultKind.OUT_OF_MEMORY:
            raise failure
        await self._parts.preparation.forget(prepared, free_bytes=failure.fault.free_bytes)
        if is_last:
            raise failure
