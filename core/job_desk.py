"""Where jobs are quoted, paid, queued, run and ended: what the swarm asks of this peer, answered.

Decides little itself: the scheduler says who and when, pricing how much, channels whether a voucher is good.
Never logs or stores a prompt or an answer.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import msgspec
import trio

from core import events as e
from core.admission import Refused
from core.job import JobId, JobRequest, JobState, PeerId, Price, Usage, charge
from core.job_output import JobOutput, OutputEnded
from core.journal import Journal
from core.live_job import LiveJob, Source
from core.model_server import ModelServer
from core.offer import Quote, Reject
from core.payments.channel import Fault, PaymentChannel, VoucherRejected, accept
from core.payments.credit import lane_credit
from core.payments.voucher import EscrowDomain, Party, Voucher
from core.settings import Settings
from core.worker import messages as w
from core.worker.process import WorkerDied

QUOTE_S = 10.0
SETTLING_S = 30.0
COUNT_TIMEOUT_S = 3.0
STALL_S = 30.0
PROGRESS_EVERY_S = 0.25
MAX_QUOTED = 64
MAX_LIVE_A_PAYER = 20
JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Clock = Callable[[], float]


class Terms(msgspec.Struct, frozen=True):
    """What this peer trades under: who is paid, in which escrow, and how far it trusts."""

    worker: Party
    domain: EscrowDomain
    settings: Settings


class DeskPorts(msgspec.Struct, frozen=True):
    """What the desk asks others: why no work is taken now (or None), the price, and a payer's channel on the chain, as
    known a moment ago or as it is now."""

    refusal: Callable[[], str | None]
    price: Callable[[], Price]
    channel: Callable[[Party], Awaitable[PaymentChannel | None]]
    fresh_channel: Callable[[Party], Awaitable[PaymentChannel | None]]
    clock: Clock


class JobDesk:
    """Implements what a job stream needs of its host. One desk serves one loaded model."""

    def __init__(self, journal: Journal, server: ModelServer, *, terms: Terms, ports: DeskPorts) -> None:
        self._journal = journal
        self._server = server
        self._terms = terms
        self._ports = ports
        self._channels: dict[str, PaymentChannel] = {}
        self._forgiven: dict[str, int] = {}
        self._quoted: dict[JobId, LiveJob] = {}
        self._live: dict[JobId, LiveJob] = {}
        self._settling: dict[JobId, tuple[LiveJob, float]] = {}
        self._payment_lock = trio.Lock()
        self._wake = trio.Event()
        self.tokens_made = 0

    @property
    def live(self) -> int:
        """How many jobs wait or run."""
        return len(self._live)

    async def quote(self, request: JobRequest, payer: Party, *, peer: PeerId) -> Quote | Reject:
        """A price and a time, or why not. Bounded: a peer that keeps asking gets refusals, never memory."""
        now = self._ports.clock()
        self._forget(now)
        terms = request.terms
        if reason := self._unfit(request, payer):
            return self._declined(request, reason)
        prompt_tokens = await self._server.count(terms.job_id, request.messages, deadline_s=COUNT_TIMEOUT_S)
        if prompt_tokens is None:
            return self._declined(request, "The model is busy.", retry_after_s=2.0)
        if prompt_tokens + terms.max_tokens > self._server.plan.slot_context_tokens:
            return self._declined(request, "Prompt and answer are longer than the context of this model.")
        channel = await self._ports.channel(payer)
        if channel is None:
            return self._declined(request, "The chain can't be reached to check payment.", retry_after_s=10.0)
        self._channels[payer.id] = channel
        return self._admit(request, Source(peer, payer), prompt_tokens=prompt_tokens)

    async def accept_payment(self, job_id: JobId, voucher: Voucher) -> int | str:
        """Take a voucher for a job; returns what is paid of this job so far, or the fault in words."""
        async with self._payment_lock:
            live = self._find(job_id)
            if live is None:
                return "This job is not known here."
            fault = await self._take_voucher(live, voucher)
            if fault:
                return fault
            self._pay_from_lane(live)
        if live.is_running:
            await self._server.send(w.Allow(job_id, live.allowance(self._terms.settings.window_tokens)))
        return live.paid

    async def start(self, job_id: JobId) -> trio.MemoryReceiveChannel[JobOutput] | str:
        """Queue a paid job; its output comes through the channel and closes with OutputEnded."""
        live = self._live.get(job_id)
        if live is None or live.paid < min(live.due, charge(live.price, Usage(live.usage.prompt_tokens, 0))):
            return "The first payment does not cover the prompt."
        if not live.is_taken:
            live.is_taken = True
            self._server.scheduler.add(live.terms, live.usage.prompt_tokens, now=self._ports.clock())
            self._wake.set()
        return live.output

    async def cancel(self, job_id: JobId, reason: str) -> None:
        """Stop a job, wherever it is; delivered tokens stay billed."""
        self._quoted.pop(job_id, None)
        live = self._live.get(job_id)
        if live is None:
            return
        live.cancel_reason = reason
        if live.is_running:
            await self._server.send(w.Cancel(job_id))
        else:
            await self._end(live, JobState.CANCELLED, reason=reason)

    async def cancel_all(self, reason: str) -> None:
        """Stop every job."""
        for job_id in tuple(self._live):
            await self.cancel(job_id, reason)

    async def run(self) -> None:
        """Start jobs as slots come free, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await self._dispatch()

    async def watch_stalls(self, every_s: float = 1.0) -> None:
        """Stop jobs whose requester has gone quiet on payment, until cancelled."""
        while True:
            await trio.sleep(every_s)
            now = self._ports.clock()
            self._forget(now)
            for live in tuple(self._live.values()):
                is_stalled = (live.is_running or not live.is_taken) and now - live.moved_at > STALL_S
                if is_stalled and not live.cancel_reason:
                    await self.cancel(live.job_id, "The requester stopped paying.")

    async def handle(self, report: w.WorkerReport | WorkerDied) -> None:
        """What a worker says of a job."""
        match report:
            case w.Loaded():
                self.wake()
            case w.Started():
                self._started(report)
            case w.Chunks():
                for chunk in report.chunks:
                    await self._chunk(chunk)
            case w.Completed():
                await self._completed(report)
            case w.JobFault():
                await self._faulted(report)
            case WorkerDied():
                await self._worker_died(report)
            case _:
                return

    def wake(self) -> None:
        """Something changed that may let a job start."""
        self._wake.set()

    def _unfit(self, request: JobRequest, payer: Party) -> str | None:
        terms = request.terms
        if refusal := self._ports.refusal():
            return refusal
        if not JOB_ID.fullmatch(terms.job_id) or self._find(terms.job_id) is not None:
            return "The job id is not usable or already taken."
        if terms.model != self._server.plan.model:
            return f"This peer serves {self._server.plan.model}."
        if not 0 < terms.max_tokens <= self._server.plan.slot_context_tokens or not request.messages:
            return "The job asks for no tokens, or more than the context holds."
        ours = sum(live.payer_id == payer.id for live in self._live.values())
        if ours >= MAX_LIVE_A_PAYER or len(self._quoted) >= MAX_QUOTED:
            return "Too many jobs at once."
        return None

    def _admit(self, request: JobRequest, source: Source, *, prompt_tokens: int) -> Quote | Reject:
        now = self._ports.clock()
        price = self._ports.price()
        if 0 < request.terms.bid_per_mtok < price.output_per_mtok:
            return self._declined(request, f"The price is {price.output_per_mtok} per million tokens.")
        verdict = self._server.scheduler.admit(request.terms, prompt_tokens, now=now)
        if isinstance(verdict, Refused):
            return self._declined(request, verdict.reason, retry_after_s=verdict.retry_after_s)
        live = LiveJob(request, source, price=price, prompt_tokens=prompt_tokens, now=now)
        self._quoted[live.job_id] = live
        worker = self._terms.worker
        return Quote(
            job_id=live.job_id,
            price=price,
            prompt_tokens=prompt_tokens,
            ttft_p90_s=verdict.ttft_s,
            tpot_s=verdict.tpot_s,
            window_tokens=self._terms.settings.window_tokens,
            worker_owner=worker.owner,
            worker_hot=worker.hot,
            model=request.terms.model,
            quantization=self._server.plan.quantization,
            expires_at=now + QUOTE_S,
        )

    def _declined(self, request: JobRequest, reason: str, *, retry_after_s: float = 0.0) -> Reject:
        self._journal.announce(e.JobDeclined(self._ports.clock(), request.terms, reason))
        return Reject(request.terms.job_id, reason, retry_after_s)

    async def _take_voucher(self, live: LiveJob, voucher: Voucher) -> str | None:
        """Check and journal a voucher. A lower one than another stream brought first is no fault: it adds nothing."""
        channel = self._channel(live)
        if voucher.cumulative >= channel.cumulative or not channel.signature:
            accepted = self._judge(channel, voucher)
            if accepted == VoucherRejected(Fault.OVER_CREDIT):
                fresh = await self._ports.fresh_channel(live.payer)
                accepted = self._judge(fresh or channel, voucher)
            if isinstance(accepted, VoucherRejected):
                return accepted.fault
            await self._journal.record(*self._facts_of(live, accepted, before=channel.cumulative))
            self._channels[live.payer_id] = accepted
        elif voucher.worker != channel.worker:
            return Fault.WRONG_WORKER
        if live.job_id in self._quoted:
            self._live[live.job_id] = self._quoted.pop(live.job_id)
        return None

    def _judge(self, channel: PaymentChannel, voucher: Voucher) -> PaymentChannel | VoucherRejected:
        credit = min(self._terms.settings.unsecured_credit, channel.free)
        return accept(channel, voucher, domain=self._terms.domain, credit_cap=credit, now=self._ports.clock())

    def _facts_of(self, live: LiveJob, accepted: PaymentChannel, *, before: int) -> list[e.Fact]:
        now = self._ports.clock()
        facts: list[e.Fact] = []
        if live.job_id in self._quoted:
            facts.append(e.JobQueued(now, live.terms, live.price, live.payer_id, live.peer))
        if accepted.cumulative > before:
            facts.append(
                e.VoucherAccepted(
                    at=now,
                    job_id=live.job_id,
                    payer=live.payer_id,
                    payer_owner=live.payer.owner,
                    payer_hot=live.payer.hot,
                    cumulative=accepted.cumulative,
                    signature=accepted.signature,
                    added=accepted.cumulative - before,
                    is_secured=accepted.unsecured == 0,
                )
            )
        return facts

    def _channel(self, live: LiveJob) -> PaymentChannel:
        return self._channels.get(live.payer_id) or PaymentChannel(live.payer, self._terms.worker.id)

    def _pay_from_lane(self, live: LiveJob) -> None:
        """Give a job its part of what its payer's lane holds, at most what it has asked for."""
        wanted = live.amount if live.job_id in self._settling else live.due
        live.paid += max(0, min(self._credit(live.payer_id), wanted - live.paid))

    def _credit(self, payer: str) -> int:
        """What a payer has signed and no job has taken; ended jobs that may still be paid hold what they took."""
        lane = self._journal.state.ledger.lanes.get(payer)
        if lane is None:
            return 0
        settling = [job for job, _ in self._settling.values() if job.payer_id == payer]
        open_jobs = settling + [job for job in self._live.values() if job.payer_id == payer]
        forgiven = self._forgiven.setdefault(payer, max(0, lane.billed - lane.cumulative))
        billed = lane.billed - sum(job.amount for job in settling) - forgiven
        return lane_credit(lane.cumulative, billed, held=sum(job.paid for job in open_jobs))

    async def _dispatch(self) -> None:
        if not self._server.is_ready:
            return
        now = self._ports.clock()
        running = sum(live.is_running for live in self._live.values())
        for assignment in self._server.scheduler.schedule(self._server.plan.slots - running, now=now):
            live = self._live.get(assignment.job_id)
            if live is None:
                self._server.scheduler.finish(assignment.job_id, now=now)
                continue
            live.is_running = True
            live.moved_at = now
            allowed = live.allowance(self._terms.settings.window_tokens)
            await self._server.send(w.Generate(live.job_id, live.request.messages, live.request.sampling, allowed))
            self._journal.announce(e.JobStarted(now, live.job_id))
        places = tuple((place.job_id, place.why) for place in self._server.scheduler.waiting(now))
        self._journal.announce(e.QueueOrdered(now, places))

    def _started(self, report: w.Started) -> None:
        live = self._live.get(report.job_id)
        if live is not None:
            live.started_at = live.moved_at = self._ports.clock()

    async def _chunk(self, chunk: w.Chunk) -> None:
        live = self._live.get(chunk.job_id)
        if live is None:
            return
        now = self._ports.clock()
        self.tokens_made += chunk.completion_tokens - live.usage.completion_tokens
        is_heard = live.deliver(chunk.text, chunk.completion_tokens, now=now)
        half_window = self._terms.settings.window_tokens // 2
        reached = live.usage.completion_tokens
        asked = live.allowance(0)
        if is_heard and reached - asked >= half_window and live.amount > live.due:
            is_heard = live.ask(live.amount)
            self._pay_from_lane(live)
        if not is_heard and not live.cancel_reason:
            await self.cancel(live.job_id, "The requester does not take the answer.")
        if now - live.told_at >= PROGRESS_EVERY_S:
            live.told_at = now
            told = e.JobProgressed(now, live.job_id, live.usage, live.amount, live.tokens_per_s)
            self._journal.announce(told)

    async def _completed(self, report: w.Completed) -> None:
        live = self._live.get(report.job_id)
        if live is None:
            return
        live.usage = report.usage
        live.timing = report.timing
        await self._end(live, JobState.FINISHED, reason=report.reason)

    async def _faulted(self, report: w.JobFault) -> None:
        live = self._live.get(report.job_id)
        if live is None:
            return
        is_cancelled = report.kind is w.FaultKind.CANCELLED
        reason = live.cancel_reason if is_cancelled and live.cancel_reason else report.message
        await self._end(live, JobState.CANCELLED if is_cancelled else JobState.FAILED, reason=reason)

    async def _worker_died(self, died: WorkerDied) -> None:
        """Jobs with nothing delivered go back to the queue once; the others fail, billed for what was delivered."""
        for live in tuple(self._live.values()):
            if not live.is_running:
                continue
            if live.usage.completion_tokens == 0 and not live.is_retried and not live.cancel_reason:
                self._requeue(live)
            else:
                await self._end(live, JobState.FAILED, reason=f"The worker stopped while this job ran: {died.reason}")

    def _requeue(self, live: LiveJob) -> None:
        now = self._ports.clock()
        live.is_running, live.is_retried, live.moved_at = False, True, now
        self._server.scheduler.finish(live.job_id, now=now)
        self._server.scheduler.add(live.terms, live.usage.prompt_tokens, now=now)

    async def _end(self, live: LiveJob, state: JobState, *, reason: str) -> None:
        """Once a job: its fact on disk, then its last word. Payments wait, so that none is counted half-way."""
        if live.is_over:
            return
        live.is_over = True
        now = self._ports.clock()
        tokens = live.usage.completion_tokens if state is JobState.FINISHED else None
        self._server.scheduler.finish(live.job_id, now=now, completion_tokens=tokens)
        usage = live.usage if live.amount else Usage()
        async with self._payment_lock:
            await self._journal.record(e.JobEnded(now, live.job_id, state, reason, usage, live.amount, live.timing))
            self._live.pop(live.job_id, None)
            live.paid = min(live.paid, live.amount)
            self._settling[live.job_id] = (live, now + SETTLING_S)
        live.end(OutputEnded(state, reason, usage, live.amount))
        self._wake.set()

    def _find(self, job_id: JobId) -> LiveJob | None:
        settling = self._settling.get(job_id)
        return self._live.get(job_id) or self._quoted.get(job_id) or (settling[0] if settling else None)

    def _forget(self, now: float) -> None:
        """Drop expired quotes, and jobs whose last payment had its time: what was not paid by then is written off."""
        self._quoted = {i: live for i, live in self._quoted.items() if now - live.quoted_at < QUOTE_S}
        for job_id, (live, until) in tuple(self._settling.items()):
            if until <= now:
                del self._settling[job_id]
                unpaid = max(0, live.amount - live.paid)
                self._forgiven[live.payer_id] = self._forgiven.get(live.payer_id, 0) + unpaid
