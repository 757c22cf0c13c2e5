"""Where jobs are quoted, paid, queued, run and ended: what the swarm asks of this peer, answered.

Decides little itself: the scheduler says who and when, pricing how much, channels whether a voucher is good.
Never logs or stores a prompt or an answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from secrets import token_bytes

import msgspec
import trio

from core import events as e
from core.admission import Refused
from core.fair_share import FairShare
from core.job import JobId, JobRequest, JobState, JobTerms, PeerId, Price, Usage
from core.job_output import JobOutput, OutputEnded
from core.journal import Journal
from core.lane_book import LaneBook, Terms
from core.live_job import LiveJob, Source
from core.model_server import ModelServer
from core.offer import Quote, Reject
from core.payments.channel import Fault, PaymentChannel
from core.payments.voucher import Party, Voucher
from core.proposal import unfit
from core.worker import messages as w
from core.worker.process import WorkerDied

QUOTE_S = 10.0
FIRST_PAYMENT_S = 3.0
COUNT_TIMEOUT_S = 3.0
REFUSED_S = 10.0
STALL_S = 30.0
ABSENT_S = 120.0  # as long as an answer is held for a requester whose line broke
NO_PROGRESS_S = 600.0
MAX_DECLINES_A_SECOND = 20
PROGRESS_EVERY_S = 0.25
MAX_QUOTED = 64
MAX_QUOTED_A_PEER = 16
MAX_MODEL_CHARS = 128
MAX_LIVE_A_PAYER = 20
MAX_ID_CHARS = 64
UNKNOWN = "This job is not known here."


class DeskPorts(msgspec.Struct, frozen=True):
    """What the desk asks others: why no work is taken now (or None), the price, and a payer's channel on the chain, as
    known a moment ago or as it is now."""

    refusal: Callable[[], str | None]
    price: Callable[[], Price]
    channel: Callable[[Party], Awaitable[PaymentChannel | None]]
    fresh_channel: Callable[[Party], Awaitable[PaymentChannel | None]]
    clock: Callable[[], float]


class JobDesk:
    """Implements what a job stream needs of its host. One desk serves one loaded model."""

    def __init__(self, journal: Journal, server: ModelServer, *, terms: Terms, ports: DeskPorts) -> None:
        self._journal = journal
        self._server = server
        self._terms = terms
        self._ports = ports
        self._lanes = LaneBook(journal, terms)
        self._asking: dict[JobId, PeerId] = {}
        self._quoted: dict[JobId, LiveJob] = {}
        self._live: dict[JobId, LiveJob] = {}
        self._fair_share = FairShare(MAX_QUOTED)
        self._declines: deque[float] = deque(maxlen=MAX_DECLINES_A_SECOND)  # full: the oldest is forgotten
        self._payment_lock = trio.Lock()
        self._wake = trio.Event()
        self._credited = trio.Event()
        self._salt = token_bytes(16)
        self.tokens_made = 0

    @property
    def live(self) -> int:
        """How many jobs wait or run."""
        return len(self._live)

    async def quote(self, request: JobRequest, payer: Party, *, peer: PeerId) -> Quote | Reject:
        """A price and a time, or why not. Bounded: a peer that keeps asking gets refusals, never memory."""
        self._forget(now := self._ports.clock())
        jobs, scheduler = self._quoted | self._live, self._server.scheduler
        if refusal := self._ports.refusal() or self._fair_share.refusal(payer.id, jobs, scheduler=scheduler, now=now):
            return self._declined(request, refusal, retry_after_s=REFUSED_S)
        if reason := self._unfit(request, payer, peer=peer):
            return self._declined(request, reason)
        job_id = request.terms.job_id
        self._asking[job_id] = peer
        try:
            return await self._quote(request, Source(peer, payer))
        finally:
            del self._asking[job_id]

    async def _quote(self, request: JobRequest, source: Source) -> Quote | Reject:
        terms = request.terms
        if not self._server.is_ready:
            return self._declined(request, "The worker is being started again.", retry_after_s=2.0)
        prompt_tokens = await self._server.count(terms.job_id, request.messages, deadline_s=COUNT_TIMEOUT_S)
        if prompt_tokens is None:
            return self._declined(request, "The model is busy.", retry_after_s=2.0)
        if isinstance(prompt_tokens, str):
            return self._declined(request, prompt_tokens)
        if prompt_tokens + terms.max_tokens > self._server.plan.slot_context_tokens:
            return self._declined(request, "Prompt and answer are longer than the context of this model.")
        channel = await self._ports.channel(source.payer)
        if channel is None:
            return self._declined(request, "The chain can't be reached to check payment.", retry_after_s=10.0)
        self._lanes.know(channel)
        return self._admit(request, source, prompt_tokens=prompt_tokens)

    async def accept_payment(self, job_id: JobId, voucher: Voucher) -> int | str:
        """Take a voucher for a job; returns what is paid of this job so far, or the fault in words."""
        raised = await self._credit(job_id, voucher)
        live = self._find(job_id)
        if raised == Fault.OVER_CREDIT and live is not None:
            # Asked outside the lock: one payer's slow chain must not hold up the payments of all others.
            fresh = await self._ports.fresh_channel(live.payer)
            if fresh is not None:
                self._lanes.know(fresh)
                raised = await self._credit(job_id, voucher)
        if isinstance(raised, str) or live is None:
            return raised if isinstance(raised, str) else UNKNOWN
        for job in raised:
            if job.is_running:
                await self._server.send(w.Allow(job.job_id, job.allowance(self._terms.settings.window_tokens)))
        self._credited.set()
        self._credited = trio.Event()
        return live.paid

    async def start(self, job_id: JobId) -> trio.MemoryReceiveChannel[JobOutput] | str:
        """Queue a paid job; its output comes through the channel and closes with OutputEnded. Vouchers of one payer
        come in any order over their streams: what is short now may be on its way."""
        live = self._live.get(job_id)
        with trio.move_on_after(FIRST_PAYMENT_S):
            while live is not None and not live.is_prompt_paid and not live.is_over:
                await self._credited.wait()
        if live is None or not live.is_prompt_paid:
            return "The first payment does not cover the prompt."
        if not live.is_taken and not live.is_over:
            live.is_taken = True
            self._server.scheduler.add(live.terms, live.usage.prompt_tokens, now=self._ports.clock())
            self._wake.set()
        return live.output

    async def cancel(self, job_id: JobId, reason: str) -> None:
        """Stop a job, wherever it is; delivered tokens stay billed."""
        self._quoted.pop(job_id, None)
        self._server.scheduler.let_go(job_id)
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
                if not live.cancel_reason and (reason := self._stall(live, now)):
                    await self.cancel(live.job_id, reason)

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

    def _stall(self, live: LiveJob, now: float) -> str | None:
        """Why a job is given up, or None. Only one at the end of its allowance waits for money: a long prompt on a slow
        machine is not its requester's fault. While nobody waits for its slot, a requester may be away for longer."""
        allowed = live.allowance(self._terms.settings.window_tokens)
        is_unpaid = not live.is_taken or (live.is_running and live.usage.completion_tokens >= allowed)
        is_in_the_way = not live.is_running or bool(self._server.scheduler.waiting(now))
        if is_unpaid and now - live.moved_at > (STALL_S if is_in_the_way else ABSENT_S):
            return "The requester stopped paying."
        if live.is_running and now - live.moved_at > NO_PROGRESS_S:
            return "The worker made no progress."
        return None

    def _unfit(self, request: JobRequest, payer: Party, *, peer: PeerId) -> str | None:
        terms = request.terms
        if reason := unfit(request, self._server.plan):
            return reason
        if terms.job_id in self._asking or self._find(terms.job_id) is not None:
            return "The job id is not usable or already taken."
        ours = sum(live.payer_id == payer.id for live in self._live.values()) + self._lanes.unpaid_jobs(payer.id)
        quoted = [*self._asking.values(), *(live.peer for live in self._quoted.values())]
        if ours >= MAX_LIVE_A_PAYER or len(quoted) >= MAX_QUOTED or quoted.count(peer) >= MAX_QUOTED_A_PEER:
            return "Too many jobs at once."
        return None

    def _admit(self, request: JobRequest, source: Source, *, prompt_tokens: int) -> Quote | Reject:
        now = self._ports.clock()
        price = self._ports.price()
        if 0 < request.terms.bid_per_mtok < price.output_per_mtok:
            return self._declined(request, f"The price is {price.output_per_mtok} per million tokens.")
        if reason := self._lanes.refusal(source.payer.id, price):
            return self._declined(request, reason)
        likely = round(min(request.terms.max_tokens, self._server.scheduler.predicted_tokens))
        self._journal.announce(e.JobAsked(now, request.terms.job_id, prompt_tokens, likely))
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
        """What is told of a refused job is bounded in size and number: a stranger's words are as long as a frame may
        be, and asking costs nothing."""
        asked, now = request.terms, self._ports.clock()
        terms = JobTerms(JobId(asked.job_id[:MAX_ID_CHARS]), asked.model[:MAX_MODEL_CHARS], asked.priority)
        if len(self._declines) < MAX_DECLINES_A_SECOND or now - self._declines[0] >= 1.0:
            self._declines.append(now)
            self._journal.announce(e.JobDeclined(now, terms, reason))
        return Reject(request.terms.job_id, reason, retry_after_s)

    async def _credit(self, job_id: JobId, voucher: Voucher) -> str | list[LiveJob]:
        """Check, journal and use a voucher; the fault, or the jobs that it paid for. A paid quote is a job before its
        fact is written: what forgets quotes meanwhile does not find it among them."""
        async with self._payment_lock:
            live = self._find(job_id)
            if live is None:
                return UNKNOWN
            now = self._ports.clock()
            accepted = self._lanes.judge(live, voucher, now=now)
            if isinstance(accepted, str):
                return accepted
            facts = self._lanes.voucher_facts(live, accepted, now=now)
            if self._quoted.pop(job_id, None) is not None:
                self._live[job_id] = live
                facts.insert(0, e.JobQueued(now, live.terms, live.price, live.payer_id, live.peer))
            await self._journal.record(*facts)
            self._lanes.know(accepted)
            return self._lanes.spread(live, self._live.values())

    async def _dispatch(self) -> None:
        """One job at a time: while the worker is told of one, the next may have ended, or the worker."""
        while self._server.is_ready and (live := self._next()) is not None:
            live.is_running = True
            live.moved_at = self._ports.clock()
            await self._server.send(live.generate(self._terms.settings.window_tokens, salt=self._salt))
            self._journal.announce(e.JobStarted(live.moved_at, live.job_id))
        now = self._ports.clock()
        places = tuple((place.job_id, place.why) for place in self._server.scheduler.waiting(now))
        self._journal.announce(e.QueueOrdered(now, places))

    def _next(self) -> LiveJob | None:
        now = self._ports.clock()
        running = sum(live.is_running for live in self._live.values())
        while chosen := self._server.scheduler.schedule(min(1, self._server.plan.slots - running), now=now):
            live = self._live.get(chosen[0].job_id)
            if live is not None and not live.is_over:
                return live
            self._server.scheduler.finish(chosen[0].job_id, now=now)
        return None

    def _started(self, report: w.Started) -> None:
        if (live := self._live.get(report.job_id)) is not None:
            live.started_at = live.moved_at = self._ports.clock()

    async def _chunk(self, chunk: w.Chunk) -> None:
        if (live := self._live.get(chunk.job_id)) is None:
            return
        now = self._ports.clock()
        before, window = live.usage.completion_tokens, self._terms.settings.window_tokens
        live.believe(chunk.completion_tokens, window)
        self.tokens_made += live.usage.completion_tokens - before
        is_heard = live.deliver(chunk, now=now)
        half_window = window // 2
        reached = live.usage.completion_tokens
        asked = live.allowance(0)
        if is_heard and reached - asked >= half_window and live.amount > live.due:
            is_heard = live.ask(live.amount)
        if not is_heard and not live.cancel_reason:
            await self.cancel(live.job_id, "The requester does not take the answer.")
        if now - live.told_at >= PROGRESS_EVERY_S:
            live.told_at = now
            told = e.JobProgressed(now, live.job_id, live.usage, live.amount, live.tokens_per_s)
            self._journal.announce(told)

    async def _completed(self, report: w.Completed) -> None:
        if (live := self._live.get(report.job_id)) is None:
            return
        live.believe(report.usage.completion_tokens, self._terms.settings.window_tokens)
        live.timing = report.timing
        await self._end(live, JobState.FINISHED, reason=report.reason)

    async def _faulted(self, report: w.JobFault) -> None:
        if (live := self._live.get(report.job_id)) is None:
            return
        is_cancelled = report.kind is w.FaultKind.CANCELLED
        reason = live.cancel_reason if is_cancelled and live.cancel_reason else report.message
        await self._end(live, JobState.CANCELLED if is_cancelled else JobState.FAILED, reason=reason)

    async def _worker_died(self, died: WorkerDied) -> None:
        """Jobs with nothing delivered go back to the queue once; the others fail, billed for what was delivered."""
        for live in tuple(self._live.values()):
            if not live.is_running:
                continue
            if live.usage.completion_tokens == 0:
                live.started_at = None  # a prompt that was read in vain costs nothing
            if live.cancel_reason:
                await self._end(live, JobState.CANCELLED, reason=live.cancel_reason)
            elif live.usage.completion_tokens == 0 and not live.is_retried:
                self._requeue(live)
            else:
                reason = f"The worker stopped while this job ran: {died.reason}."
                await self._end(live, JobState.FAILED, reason=reason)

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
        ended = e.JobEnded(now, live.job_id, state, reason, usage, live.amount, live.timing)
        with trio.CancelScope(shield=True):  # half an end would keep the job for ever
            await self._write_end(live, ended)
        live.end(OutputEnded(state, reason, usage, live.amount))
        self._wake.set()

    async def _write_end(self, live: LiveJob, ended: e.JobEnded) -> None:
        async with self._payment_lock:
            try:
                await self._journal.record(ended)
                self._lanes.settle(live, now=ended.at)
            finally:
                self._live.pop(live.job_id, None)

    def _find(self, job_id: JobId) -> LiveJob | None:
        return self._live.get(job_id) or self._quoted.get(job_id) or self._lanes.find(job_id)

    def _forget(self, now: float) -> None:
        """Drop expired quotes, and what the lanes need no more."""
        self._quoted = {i: live for i, live in self._quoted.items() if now - live.quoted_at < QUOTE_S}
        self._lanes.forget(now, [live.payer_id for live in (*self._quoted.values(), *self._live.values())])
