"""The provider's side of a job stream: carries proposals, payments and answers between a requester and the JobHost.

Decides nothing about jobs or money: the host does. Never lets an exception of one stream reach the swarm, and never
logs a prompt or an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, assert_never

import trio

from core.job import JobId, JobRequest, JobState, PeerId, Usage
from core.job_output import JobOutput, OutputChunk, OutputDue, OutputEnded
from core.offer import Quote, Reject
from core.payments.voucher import Party, Voucher
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.chunk_buffer import ChunkBuffer
from p2p.job_link import JobLink
from p2p.job_protocol import JobProvider, Phase
from p2p.messages import (
    AmountDue,
    Cancel,
    Chunk,
    Failed,
    Finished,
    Keep,
    Pay,
    Propose,
    ProviderMessage,
    Quoted,
    Rejected,
    RequesterMessage,
    proposal_fault,
    quote_bytes,
)
from p2p.protocol_error import LocalProtocolError, RemoteProtocolError

FIRST_FRAME_S = 5.0
QUOTE_S = 10.0
PAYMENT_S = 12.0
HOST_S = 10.0
SETTLE_S = 10.0
CANCEL_S = 10.0

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


async def serve_job(stream: ByteStream, host: JobHost, *, peer: PeerId, sign: Signer) -> None:
    """Carry one job from its proposal to its last payment. Never raises but for cancellation; always lets go of it."""
    try:
        end = _ProviderEnd(stream, host, peer=peer, sign=sign)
        await end.run()
        await end.link.hang_up()
    except (StreamBroken, RemoteProtocolError) as error:
        log.info("job stream from %s ended: %s", peer, error)
    except (LocalProtocolError, trio.TooSlowError):
        log.exception("a job stream was dropped")
    except Exception:  # noqa: BLE001  one stream's fault must not take the swarm down
        log.exception("a job stream failed")
    finally:
        await stream.reset()


class _ProviderEnd:
    """One job of one requester."""

    def __init__(self, stream: ByteStream, host: JobHost, *, peer: PeerId, sign: Signer) -> None:
        self._conversation = JobProvider()
        self.link: Link = JobLink(stream, self._conversation)
        self._host = host
        self._peer = peer
        self._sign = sign
        self._buffer = ChunkBuffer()
        self._paid = 0
        self._amount: int | None = None
        self._settled = trio.Event()
        self._selling = trio.CancelScope()

    async def run(self) -> None:
        propose = await self.link.receive(within_s=FIRST_FRAME_S)
        if not isinstance(propose, Propose):
            return
        job_id = propose.request.terms.job_id
        if fault := proposal_fault(propose):
            await self.link.send(Rejected(Reject(job_id, fault)))
            return
        with trio.fail_after(QUOTE_S):
            answer = await self._host.quote(propose.request, propose.payer, peer=self._peer)
        if isinstance(answer, Reject):
            await self.link.send(Rejected(answer))
            return
        try:
            await self.link.send(Quoted(answer, self._sign(quote_bytes(answer))))
            await self._sell(job_id)
        finally:
            if not self._conversation.is_over or self._amount is None:
                await self._stop(job_id, "The requester left.")

    async def _sell(self, job_id: JobId) -> None:
        refusal: str | None = "No payment came before the quote expired."
        with trio.move_on_after(PAYMENT_S):
            refusal = await self._first_payment(job_id)
        if refusal:
            await self._end(OutputEnded(JobState.FAILED, refusal, Usage(), 0))
            return
        with trio.fail_after(HOST_S):
            output = await self._host.start(job_id)
        if isinstance(output, str):
            await self._end(OutputEnded(JobState.FAILED, output, Usage(), 0))
            return
        with output, self._selling:
            await self._carry(job_id, output)

    async def _carry(self, job_id: JobId, output: trio.MemoryReceiveChannel[JobOutput]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.link.keep_alive)
            nursery.start_soon(self._listen, job_id)
            await self._deliver(output)
            await self._settle()
            nursery.cancel_scope.cancel()

    async def _first_payment(self, job_id: JobId) -> str | None:
        """Wait for the payment that accepts the quote; what is wrong, or None."""
        while True:
            match await self.link.receive():
                case Pay(voucher=voucher):
                    return await self._credit(job_id, voucher)
                case Keep():
                    continue
                case _:
                    return "The requester cancelled before paying."

    async def _credit(self, job_id: JobId, voucher: Voucher) -> str | None:
        with trio.fail_after(HOST_S):
            answer = await self._host.accept_payment(job_id, voucher)
        if isinstance(answer, str):
            return answer
        self._paid = max(self._paid, answer)
        if self._amount is not None and self._paid >= self._amount:
            self._settled.set()
        return None

    async def _listen(self, job_id: JobId) -> None:
        """Take payments, a Cancel, or the end. When the requester is gone there is nobody to deliver to: stop all."""
        try:
            while (message := await self.link.receive()) is not None:
                await self._heed(job_id, message)
        except (StreamBroken, RemoteProtocolError) as error:
            log.info("the requester of a job is gone: %s", error)
            await self._stop(job_id, "The requester left.")
            self._selling.cancel()
        self._settled.set()

    async def _heed(self, job_id: JobId, message: RequesterMessage) -> None:
        match message:
            case Pay(voucher=voucher):
                if (fault := await self._credit(job_id, voucher)) and self._amount is None:
                    await self._stop(job_id, fault)
            case Cancel():
                self._selling.deadline = trio.current_time() + CANCEL_S
                await self._stop(job_id, "The requester cancelled.")
            case Keep() | Propose():
                return
            case _:
                assert_never(message)

    async def _deliver(self, output: trio.MemoryReceiveChannel[JobOutput]) -> None:
        """Send the output until its end, small pieces together."""
        try:
            while True:
                piece: JobOutput | None = None
                with trio.move_on_at(self._buffer.flush_at):
                    piece = await output.receive()
                if isinstance(piece, OutputChunk):
                    self._buffer.add(piece.text, piece.completion_tokens, now=trio.current_time())
                if not isinstance(piece, OutputChunk) or self._buffer.is_ripe:
                    await self._flush()
                match piece:
                    case OutputDue(amount=amount):
                        await self.link.send(AmountDue(amount))
                    case OutputEnded():
                        await self._end(piece)
                        return
                    case OutputChunk() | None:
                        pass
                    case _:
                        assert_never(piece)
        except trio.EndOfChannel:
            await self._end(OutputEnded(JobState.FAILED, "The job ended without a result.", Usage(), 0))
        except StreamBroken as error:
            log.info("the answer could not be delivered: %s", error)

    async def _flush(self) -> None:
        if (piece := self._buffer.take()) is not None:
            text, tokens = piece
            await self.link.send(Chunk(self._conversation.next_seq, text, tokens))

    async def _end(self, ended: OutputEnded) -> None:
        """Say the last word."""
        self._amount = ended.amount
        if ended.state is JobState.FINISHED:
            digest = self._conversation.digest()
            await self.link.send(Finished(ended.usage, ended.reason, ended.amount, digest))
            return
        is_cancelled = ended.state is JobState.CANCELLED or self._conversation.phase is Phase.ABANDONED
        state = JobState.CANCELLED if is_cancelled else JobState.FAILED
        await self.link.send(Failed(state, ended.reason, ended.usage, ended.amount))

    async def _settle(self) -> None:
        """Wait a little for the payment of the last tokens."""
        if self._amount is not None and self._paid < self._amount:
            with trio.move_on_after(SETTLE_S):
                await self._settled.wait()

    async def _stop(self, job_id: JobId, reason: str) -> None:
        """Tell the host, even while everything is being cancelled."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + HOST_S):
            await self._host.cancel(job_id, reason)
