"""The provider's side of one job stream: carries a proposal, its payments and its answer between requester and JobHost.

Decides nothing about jobs or money: the host does. Never logs a prompt or an answer. What outlives a stream is not
here (p2p.job_sales).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol, assert_never

import trio

from core.job import JobId, JobRequest, JobState, PeerId, Usage
from core.job_output import JobOutput
from core.offer import Quote, Reject
from core.payments.voucher import Party, Voucher
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.held_job import HeldJob
from p2p.job_link import JobLink
from p2p.job_protocol import JobProvider, Phase
from p2p.messages import (
    AmountDue,
    Cancel,
    Failed,
    Keep,
    Pay,
    Propose,
    ProviderMessage,
    Quoted,
    Rejected,
    RequesterMessage,
    Resume,
    Resumed,
    quote_bytes,
)
from p2p.protocol_error import HungUp, RemoteProtocolError

FIRST_FRAME_S = 5.0
QUOTE_S = 10.0
PAYMENT_S = 12.0
HOST_S = 10.0
SETTLE_S = 10.0
CANCEL_S = 10.0
LEFT = "The requester left."
UNHELD = "This job is not held here."

log = logging.getLogger(__name__)

Signer = Callable[[bytes], str]
"""The peer's identity key: bytes to a signature in hex."""

Link = JobLink[ProviderMessage, RequesterMessage]


class JobHost(Protocol):
    """What a job stream needs of whoever runs the jobs."""

    async def quote(self, request: JobRequest, payer: Party, *, peer: PeerId) -> Quote | Reject:
        """A price and a time for this job, or why not."""

    async def accept_payment(self, job_id: JobId, voucher: Voucher) -> int | str:
        """What is paid of this job so far, in smallest units; or what is wrong with the voucher."""

    async def start(self, job_id: JobId) -> trio.MemoryReceiveChannel[JobOutput] | str:
        """The output of a paid job, closed behind its OutputEnded; or why it does not start."""

    async def cancel(self, job_id: JobId, reason: str) -> None:
        """Stop a job; its OutputEnded still comes. Not an error for a job that is over."""


Started = Callable[[HeldJob, trio.MemoryReceiveChannel[JobOutput]], None]
"""Told of a job that is paid for and runs, with its output."""


class ProviderEnd:
    """One stream of one requester."""

    def __init__(self, stream: ByteStream, host: JobHost, *, peer: PeerId, sign: Signer) -> None:
        self._conversation = JobProvider()
        self.link: Link = JobLink(stream, self._conversation)
        self.peer = peer
        self._host = host
        self._sign = sign

    async def first_message(self) -> RequesterMessage | None:
        """What the requester wants. Raises StreamBroken, RemoteProtocolError."""
        return await self.link.receive(within_s=FIRST_FRAME_S)

    async def reject(self, job_id: JobId, reason: str, *, retry_after_s: float = 0.0) -> None:
        """No, and why."""
        await self.link.send(Rejected(Reject(job_id, reason, retry_after_s)))

    async def sell(self, propose: Propose, started: Started) -> None:
        """From a proposal to its last payment, or as far as it comes."""
        with trio.fail_after(QUOTE_S):
            answer = await self._host.quote(propose.request, propose.payer, peer=self.peer)
        if isinstance(answer, Reject):
            await self.link.send(Rejected(answer))
            return
        job: HeldJob | None = None
        try:
            await self.link.send(Quoted(answer, self._sign(quote_bytes(answer))))
            job = await self._start(propose.request, answer, started=started)
        finally:
            if job is None:
                await stop(self._host, answer.job_id, reason=LEFT)
        if job is not None:
            await self._carry(job, 0)

    async def resume(self, resume: Resume, job: HeldJob | None) -> None:
        """Go on with a job of this peer whose line broke; None: it has none of this name."""
        answer = job.record.answer_at(resume.seq) if job is not None else None
        if job is None or answer is None:
            await self.reject(resume.job_id, UNHELD)
            return
        self._conversation.take_up(answer)
        await self.link.send(Resumed(resume.seq))
        await self._carry(job, resume.seq)

    async def _start(self, request: JobRequest, quote: Quote, *, started: Started) -> HeldJob | None:
        """The job once it is paid for and runs; None, and the last word said, where it does not come to that."""
        paid: int | str = "No payment came before the quote expired."
        with trio.move_on_after(PAYMENT_S):
            paid = await self._first_payment(quote.job_id)
        if isinstance(paid, str):
            await self._fail(paid)
            return None
        with trio.fail_after(HOST_S):
            output = await self._host.start(quote.job_id)
        if isinstance(output, str):
            await self._fail(output)
            return None
        job = HeldJob(request, quote, peer=self.peer, paid=paid)
        started(job, output)
        return job

    async def _fail(self, reason: str) -> None:
        is_cancelled = self._conversation.phase is Phase.ABANDONED
        state = JobState.CANCELLED if is_cancelled else JobState.FAILED
        await self.link.send(Failed(state, reason, Usage(), 0))

    async def _first_payment(self, job_id: JobId) -> int | str:
        """Wait for the payment that accepts the quote; what is paid, or what is wrong."""
        while True:
            match await self.link.receive():
                case Pay(voucher=voucher):
                    return await self._paid(job_id, voucher)
                case Keep():
                    continue
                case _:
                    return "The requester cancelled before paying."

    async def _paid(self, job_id: JobId, voucher: Voucher) -> int | str:
        with trio.fail_after(HOST_S):
            return await self._host.accept_payment(job_id, voucher)

    async def _carry(self, job: HeldJob, seq: int) -> None:
        """Bring the answer from chunk seq on. Raises StreamBroken or RemoteProtocolError when the line breaks; returns
        when all is said, or when another stream of the requester has taken over."""
        faults: list[Exception] = []
        with job.line() as line:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.link.keep_alive)
                nursery.start_soon(partial(self._listen, job, line, faults=faults))
                try:
                    await self._deliver(job, seq)
                    await self._settle(job)
                except StreamBroken as error:
                    faults.append(error)
                nursery.cancel_scope.cancel()
        if faults:
            raise faults[0]

    async def _listen(self, job: HeldJob, line: trio.CancelScope, *, faults: list[Exception]) -> None:
        """Take payments, a Cancel, or the end."""
        try:
            while (message := await self.link.receive()) is not None:
                await self._heed(job, message, line=line)
            line.cancel()  # all is said, and nothing more will be paid on this line
        except (StreamBroken, RemoteProtocolError) as error:
            faults.append(error)
            line.cancel()

    async def _heed(self, job: HeldJob, message: RequesterMessage, *, line: trio.CancelScope) -> None:
        match message:
            case Pay(voucher=voucher):
                paid = await self._paid(job.job_id, voucher)
                if not isinstance(paid, str):
                    job.credit(paid)
                elif not job.is_over:
                    await stop(self._host, job.job_id, reason=paid)
            case Cancel():
                line.deadline = trio.current_time() + CANCEL_S
                await stop(self._host, job.job_id, reason="The requester cancelled.")
            case Keep() | Propose() | Resume():
                return
            case _:
                assert_never(message)

    async def _deliver(self, job: HeldJob, seq: int) -> None:
        """Say the answer from chunk seq on, until the last word."""
        record, asked = job.record, 0
        while True:
            news = job.news
            while seq < record.next_seq:
                if (chunk := record.chunk(seq)) is None:
                    raise StreamBroken("The requester is too far behind the answer.")
                await self.link.send(chunk)
                seq += 1
            if record.due > asked and record.last is None:
                asked = record.due
                await self.link.send(AmountDue(asked))
            if seq == record.next_seq and record.last is not None:
                await self.link.send(record.last)
                return
            if news is job.news:
                await news.wait()

    async def _settle(self, job: HeldJob) -> None:
        """Wait a little for the payment of the last tokens."""
        job.credit(job.paid)
        with trio.move_on_after(SETTLE_S):
            await job.settled.wait()


async def stop(host: JobHost, job_id: JobId, *, reason: str) -> None:
    """Tell the host, even while everything is being cancelled."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + HOST_S):
        await host.cancel(job_id, reason)


def is_broken_line(error: Exception) -> bool:
    """Whether nobody need be to blame: the line broke, as lines do."""
    return isinstance(error, StreamBroken | HungUp)
