"""The jobs that this peer sells: each goes on when its line breaks, and its requester may come back for the rest.

What is held is bounded in time, number and bytes, and is in memory only. Never raises into the swarm, and decides
nothing about prices or places: the host does.

A line that breaks does not stop a job, and neither does a reset: at this end they look alike (so does a killed
process). A requester that wants the end says Cancel. Whoever vanishes costs at most the window that is not paid, and a
slot until the host stops a job that nobody pays for.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec
import trio

from core.job import JobId, JobState, PeerId, Usage
from core.job_output import JobOutput, OutputEnded
from core.payments.voucher import UNPROVEN, EscrowDomain, job_claim_fault
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.held_job import HeldJob
from p2p.identity import Identity
from p2p.job_stream import LEFT, JobHost, ProviderEnd, is_broken_line, stop
from p2p.messages import Propose, Resume, job_claim, proposal_fault
from p2p.protocol_error import HungUp, LocalProtocolError, RemoteProtocolError
from p2p.token_bucket import Rate, TokenBuckets
from p2p.trust import Fault, Report

HELD_S = 120.0
SETTLED_S = 12.0
MAX_HELD = 256
MAX_HELD_BYTES = 32 << 20
EACH_PEER = Rate(per_s=20.0, burst=100.0)
ALL_PEERS = Rate(per_s=200.0, burst=500.0)

log = logging.getLogger(__name__)


class SalesPorts(msgspec.Struct, frozen=True):
    """What selling needs of others: the escrow that payers' proofs are for, who hears of faults, the time (seconds
    since the epoch), and how often one peer and all of them may ask."""

    domain: EscrowDomain
    report: Report
    clock: Callable[[], float]
    each: Rate = EACH_PEER
    total: Rate = ALL_PEERS


class JobSales:
    """Serves job streams while it runs. One a stay in the swarm."""

    def __init__(self, host: JobHost, identity: Identity, *, ports: SalesPorts) -> None:
        self._host = host
        self._identity = identity
        self._ports = ports
        self._asked = TokenBuckets(ports.each, ports.total)
        self._jobs: dict[JobId, HeldJob] = {}
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        """How many jobs are held, running ones included."""
        return len(self._jobs)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; what runs then is stopped."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None
                running = [job for job in self._jobs.values() if not job.is_over]
                for job in running:
                    await stop(self._host, job.job_id, reason="This peer left the network.")

    async def settle(self) -> None:
        """Until no stream carries a job any more: all last words are said, and paid or given up. Bounded."""
        with trio.move_on_after(SETTLED_S):
            while any(job.is_carried for job in self._jobs.values()):
                await trio.sleep(0.02)

    async def serve(self, stream: ByteStream, peer: PeerId) -> None:
        """Serve one stream. Never raises but for cancellation; always lets go of it."""
        end = ProviderEnd(stream, self._host, peer=peer, sign=self._identity.sign)
        try:
            if self._nursery is None:
                return
            await self._serve(end)
            await end.link.hang_up()
        except (StreamBroken, RemoteProtocolError) as error:
            log.info("a job stream from %s ended: %s", peer, error)
            if not is_broken_line(error):
                stream.blame()
        except (LocalProtocolError, trio.TooSlowError):
            log.exception("a job stream was dropped")
        except Exception:  # noqa: BLE001  one stream's fault must not take the swarm down
            log.exception("a job stream failed")
        finally:
            await stream.reset()

    async def _serve(self, end: ProviderEnd) -> None:
        match await end.first_message():
            case Propose() as propose:
                await self._sell(end, propose)
            case Resume() as resume:
                await self._resume(end, resume)
            case _:
                return

    async def _sell(self, end: ProviderEnd, propose: Propose) -> None:
        job_id = propose.request.terms.job_id
        if not await self._has_turn(end, job_id):
            return
        fault = proposal_fault(propose)
        if fault is None and (fault := self._proof_fault(propose)) == UNPROVEN:
            self._ports.report(end.peer, Fault.FALSE_PROOF)
        if fault:
            await end.reject(job_id, fault)
            return
        if job_id in self._jobs:
            await end.reject(job_id, "The job id is not usable or already taken.")
            return
        await self._carry(end, job_id, talk=end.sell(propose, self._started))

    async def _resume(self, end: ProviderEnd, resume: Resume) -> None:
        if not await self._has_turn(end, resume.job_id):
            return
        job = self._jobs.get(resume.job_id)
        job = job if job is not None and job.peer == end.peer else None
        await self._carry(end, resume.job_id, talk=end.resume(resume, job))

    async def _carry(self, end: ProviderEnd, job_id: JobId, *, talk: Awaitable[None]) -> None:
        """One stream's talk about a job. A broken line lets the job go on; a broken protocol ends it."""
        try:
            await talk
        except HungUp:
            raise
        except RemoteProtocolError:
            await self._give_up(job_id, end.peer)
            raise
        finally:
            self._let_go(job_id, end.peer)

    async def _has_turn(self, end: ProviderEnd, job_id: JobId) -> bool:
        """Whether this peer may ask now; it is told when, if not. Whoever asks on regardless misbehaves."""
        turn = self._asked.take(end.peer, now=self._ports.clock())
        if turn.is_own:
            self._ports.report(end.peer, Fault.TOO_OFTEN)
        if turn.wait_s:
            await end.reject(job_id, "This peer is asked too often.", retry_after_s=turn.wait_s)
        return not turn.wait_s

    def _proof_fault(self, propose: Propose) -> str | None:
        proof = propose.proof
        return job_claim_fault(
            self._ports.domain,
            job_claim(propose, self._identity.peer_id),
            hot=propose.payer.hot,
            signature=proof.signature,
            now=self._ports.clock(),
        )

    def _started(self, job: HeldJob, output: trio.MemoryReceiveChannel[JobOutput]) -> None:
        self._jobs[job.job_id] = job
        if self._nursery is not None:
            self._nursery.start_soon(self._take, job, output)
        self._make_room()

    async def _take(self, job: HeldJob, output: trio.MemoryReceiveChannel[JobOutput]) -> None:
        try:
            await job.take(output)
        except LocalProtocolError:
            log.exception("an answer did not add up")
            await stop(self._host, job.job_id, reason="The answer did not add up.")
            job.end(OutputEnded(JobState.FAILED, "The answer did not add up.", Usage(), 0))

    async def _give_up(self, job_id: JobId, peer: PeerId) -> None:
        job = self._jobs.get(job_id)
        if job is not None and job.peer == peer:
            del self._jobs[job_id]
            await stop(self._host, job_id, reason="The requester broke the protocol.")

    def _let_go(self, job_id: JobId, peer: PeerId) -> None:
        """A stream has ended. What nobody carries now is held for a while."""
        job = self._jobs.get(job_id)
        if job is not None and job.peer == peer and not job.is_carried and self._nursery is not None:
            self._nursery.start_soon(self._hold, job)

    async def _hold(self, job: HeldJob) -> None:
        """Forget the job after a while, unless its requester comes back; what still runs then is cancelled."""
        with trio.CancelScope() as job.waiting:
            await trio.sleep(HELD_S)
            self._jobs.pop(job.job_id, None)
            if not job.is_over:
                await stop(self._host, job.job_id, reason=LEFT)

    def _make_room(self) -> None:
        """Too many or too long: the oldest ended answers go, whether or not anybody has come back for them."""
        held_bytes = sum(job.record.text_bytes for job in self._jobs.values())
        for job in tuple(self._jobs.values()):
            if len(self._jobs) <= MAX_HELD and held_bytes <= MAX_HELD_BYTES:
                return
            if job.is_over and not job.is_carried:
                held_bytes -= job.record.text_bytes
                job.waiting.cancel()
                del self._jobs[job.job_id]
