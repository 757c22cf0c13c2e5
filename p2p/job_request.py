"""The requester's side of a job stream: proposes, pays as the answer comes, and tells its user what happened.

Never pays more than the job's max_total or for more than one window beyond what was delivered. A peer's misbehaviour is
a JobOver with its reason, never an exception to the caller. When the line breaks under a running job, it comes back for
the rest at the same peer; each piece of the answer is told once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Protocol, assert_never

import msgspec
import trio

from core.job import JobId, JobRequest, JobState, PeerId, PriorityClass, Usage, charge
from core.offer import Quote, Reject
from core.payments.voucher import Party, Voucher
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.identity import is_signed_by
from p2p.job_link import JobLink
from p2p.job_protocol import JobRequester, Phase
from p2p.messages import (
    AmountDue,
    Cancel,
    Chunk,
    Failed,
    Finished,
    Keep,
    Pay,
    PayerProof,
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
from p2p.swarm_errors import PeerUnreachable

CANCEL_S = 3.0
PAY_S = 10.0
UPDATES = 64
TEMPLATE_TOKENS_A_TURN = 64
RESUME_S = 25.0
RESUME_LATER_S = 110.0  # nearly as long as it is held
RESUME_UNHEARD_S = 5.0  # nothing was delivered: another peer would be sooner
FIRST_BACKOFF_S = 0.05
MAX_BACKOFF_S = 5.0

Link = JobLink[RequesterMessage, ProviderMessage]

Reopen = Callable[[], Awaitable[ByteStream]]
"""A new stream to the same peer, by whatever address it has now. Raises PeerUnreachable."""


class JobQuoted(msgspec.Struct, frozen=True):
    """The peer takes the job at this price, and we accepted."""

    quote: Quote


class JobText(msgspec.Struct, frozen=True):
    """A piece of the answer; completion_tokens is the total so far."""

    text: str
    completion_tokens: int


class JobPaid(msgspec.Struct, frozen=True):
    """We have signed for this much of the job, in smallest units."""

    amount: int


class JobOver(msgspec.Struct, frozen=True):
    """The end. amount is what the job cost, paid what we signed for; retry_after_s 0: asking again here is no use."""

    state: JobState
    reason: str
    usage: Usage = Usage()
    amount: int = 0
    paid: int = 0
    retry_after_s: float = 0.0


JobUpdate = JobQuoted | JobText | JobPaid | JobOver


class Payer(Protocol):
    """Who signs for a job. party is named in the proposal."""

    @property
    def party(self) -> Party:
        """Whose money it is."""

    def prove(self, job_id: JobId, provider: PeerId) -> PayerProof:
        """That this job is ours to pay, for this provider's eyes."""

    async def pay(self, quote: Quote, amount: int) -> Voucher | str:
        """A voucher to the quote's worker that brings what was signed for this job (quote.job_id) to amount in all, in
        smallest units; or why not. Asked again with the same amount, it gives the same voucher again."""


@asynccontextmanager
async def request_job(
    stream: ByteStream, request: JobRequest, *, payer: Payer, peer: PeerId, reopen: Reopen | None = None
) -> AsyncIterator[trio.MemoryReceiveChannel[JobUpdate]]:
    """Run a job on this stream to that peer; its updates end with one JobOver. Leaving early cancels the job, pays what
    was delivered, and takes up to CANCEL_S. Without reopen, a broken line is the end."""
    send, updates = trio.open_memory_channel[JobUpdate](UPDATES)
    async with trio.open_nursery() as nursery, updates:
        end = _RequesterEnd(stream, request, payer=payer, peer=peer, reopen=reopen)
        nursery.start_soon(end.run, send)
        yield updates
        nursery.cancel_scope.cancel()


class _RequesterEnd:
    """One job at one peer."""

    def __init__(
        self, stream: ByteStream, request: JobRequest, *, payer: Payer, peer: PeerId, reopen: Reopen | None
    ) -> None:
        self._request = request
        self._payer = payer
        self._peer = peer
        self._reopen = reopen
        self._quote: Quote | None = None
        self._signed = 0
        self._objection = ""
        self._last: Finished | Failed | None = None
        self._give_up_at = inf
        self._take(stream, JobRequester())

    def _take(self, stream: ByteStream, conversation: JobRequester) -> None:
        self._stream = stream
        self._conversation = conversation
        self._link: Link = JobLink(stream, conversation)

    async def run(self, updates: trio.MemorySendChannel[JobUpdate]) -> None:
        over: JobOver | None = None
        async with updates:
            try:
                over = await self._converse(updates)
                await _tell(updates, over)
                await self._link.hang_up()
            finally:
                if over is None:
                    await self._wind_up()
                await self._stream.reset()

    async def _converse(self, updates: trio.MemorySendChannel[JobUpdate]) -> JobOver:
        """To the job's end, over as many lines as it takes."""
        proof = self._payer.prove(self._request.terms.job_id, self._peer)
        said: Propose | Resume = Propose(self._request, self._payer.party, proof)
        while True:
            try:
                return await self._follow(said, updates)
            except (StreamBroken, HungUp) as error:
                if not await self._reconnect():
                    return self._broken(error)
                said = self._resume()
            except RemoteProtocolError as error:
                self._stream.blame()
                return self._broken(error)

    async def _follow(self, said: Propose | Resume, updates: trio.MemorySendChannel[JobUpdate]) -> JobOver:
        """To the job's end on this line. Raises StreamBroken, RemoteProtocolError."""
        ended: JobOver | StreamBroken | RemoteProtocolError
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._link.keep_alive)
            try:
                ended = await self._talk(said, updates)
            except (StreamBroken, RemoteProtocolError) as error:
                ended = error
            nursery.cancel_scope.cancel()
        if isinstance(ended, Exception):
            raise ended
        return ended

    async def _talk(self, said: Propose | Resume, updates: trio.MemorySendChannel[JobUpdate]) -> JobOver:
        await self._link.send(said)
        while (message := await self._link.receive()) is not None:
            if (over := await self._heed(message, updates)) is not None:
                return over
        raise StreamBroken("The peer closed the stream.")

    def _resume(self) -> Resume:
        return Resume(self._request.terms.job_id, self._conversation.answer.chunks)

    async def _reconnect(self) -> bool:
        """Another line to the same peer, for a job that it may still hold."""
        if self._reopen is None or self._quote is None or self._objection:
            return False
        if self._give_up_at == inf:
            patience_s = resume_patience_s(self._request, is_heard=self._conversation.answer.chunks > 0)
            self._give_up_at = trio.current_time() + patience_s
        with trio.move_on_at(self._give_up_at):
            await self._stream.reset()
            stream = await _reopened(self._reopen)
            self._take(stream, JobRequester(self._conversation.answer))
            return True
        return False

    async def _heed(self, message: ProviderMessage, updates: trio.MemorySendChannel[JobUpdate]) -> JobOver | None:
        match message:
            case Quoted():
                await self._accept(message, updates)
            case Chunk(text=text, completion_tokens=tokens):
                self._give_up_at = inf
                await _tell(updates, JobText(text, tokens))
            case AmountDue(amount=amount):
                await self._pay(amount, updates)
            case Keep() | Resumed():
                pass
            case Rejected(reject=reject):
                return self._rejected(reject)
            case Finished() | Failed():
                return await self._finish(message)
            case _:
                assert_never(message)
        return None

    async def _accept(self, quoted: Quoted, updates: trio.MemorySendChannel[JobUpdate]) -> None:
        """Check the quote and pay the prompt, which starts the job; the answer is paid as it comes."""
        quote = quoted.quote
        if not is_signed_by(self._peer, quote_bytes(quote), signature=quoted.signature):
            raise RemoteProtocolError("the quote is not signed by it")
        self._quote = quote
        if objection := quote_objection(self._request, quote):
            await self._object(objection)
            return
        await _tell(updates, JobQuoted(quote))
        await self._pay(charge(quote.price, Usage(quote.prompt_tokens, 0)), updates)

    async def _pay(self, amount: int, updates: trio.MemorySendChannel[JobUpdate]) -> None:
        """Sign for this much of the job, or say why not and cancel it."""
        if self._objection:
            return
        if 0 < self._request.terms.max_total < amount:
            await self._object("The job costs more than its limit.")
            return
        voucher = await self._sign(amount)
        if isinstance(voucher, str):
            await self._object(voucher)
            return
        await self._link.send(Pay(voucher))
        await _tell(updates, JobPaid(self._signed))

    async def _sign(self, amount: int) -> Voucher | str:
        if self._quote is None:
            return "There is no quote to pay."
        amount = max(amount, self._signed)
        with trio.move_on_after(PAY_S):
            voucher = await self._payer.pay(self._quote, amount)
            if not isinstance(voucher, str):
                self._signed = amount
            return voucher
        return "The wallet did not answer."

    async def _object(self, reason: str) -> None:
        self._objection = reason
        await self._link.send(Cancel())

    def _rejected(self, reject: Reject) -> JobOver:
        if self._quote is None:
            return JobOver(JobState.DECLINED, reject.reason, retry_after_s=reject.retry_after_s)
        if reject.retry_after_s > 0:
            raise StreamBroken(reject.reason)  # not now: come back again
        return self._broken(StreamBroken(f"The line broke, and the peer does not go on. {reject.reason}"))

    async def _finish(self, last: Finished | Failed) -> JobOver:
        """Pay what is still owed, within the job's limit, and tell the end. After a break it is paid once more: nobody
        knows whether the payment arrived."""
        limit = self._request.terms.max_total
        owed = min(last.amount, limit) if limit else last.amount
        is_again, self._last = self._last is not None, last
        if owed > self._signed or (is_again and owed):
            voucher = await self._sign(owed)
            if not isinstance(voucher, str):
                await self._link.send(Pay(voucher))
        return self._over(last)

    def _over(self, last: Finished | Failed) -> JobOver:
        match last:
            case Finished():
                return JobOver(JobState.FINISHED, last.reason, last.usage, last.amount, self._signed)
            case Failed():
                reason = self._objection or last.reason
                return JobOver(last.state, reason, last.usage, last.amount, self._signed)

    async def _wind_up(self) -> None:
        """We are being cancelled: say so, wait a little for the last word, pay what was delivered."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CANCEL_S):
            try:
                await self._part()
            except (StreamBroken, RemoteProtocolError):
                return

    async def _part(self) -> None:
        if self._conversation.phase in (Phase.PROPOSED, Phase.QUOTED, Phase.RUNNING, Phase.RESUMING):
            await self._object("The job was cancelled.")
        while not self._conversation.is_over and self._conversation.phase is not Phase.OPEN:
            message = await self._link.receive()
            if isinstance(message, Finished | Failed):
                await self._finish(message)
        await self._link.hang_up()

    def _broken(self, error: StreamBroken | RemoteProtocolError) -> JobOver:
        if self._last is not None:
            return self._over(self._last)
        is_line = isinstance(error, StreamBroken)
        reason = str(error) if is_line else f"The peer did not keep to the protocol: {error}."
        usage = self._conversation.usage
        amount = charge(self._quote.price, usage) if self._quote is not None else 0
        return JobOver(JobState.FAILED, self._objection or reason, usage, amount, self._signed)


async def _reopened(reopen: Reopen) -> ByteStream:
    """A new stream, tried for until the caller gives up."""
    backoff_s = FIRST_BACKOFF_S
    while True:
        try:
            return await reopen()
        except PeerUnreachable:
            await trio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)


def resume_patience_s(request: JobRequest, *, is_heard: bool) -> float:
    """How long to try to come back to a peer whose line broke. Someone who reads along would rather ask anew soon."""
    if not is_heard:
        return RESUME_UNHEARD_S
    return RESUME_S if request.terms.priority is PriorityClass.INTERACTIVE else RESUME_LATER_S


def quote_objection(request: JobRequest, quote: Quote) -> str | None:
    """Why we do not take this quote, or None."""
    terms = request.terms
    if 0 < terms.bid_per_mtok < quote.price.output_per_mtok:
        return f"The peer asks {quote.price.output_per_mtok} per million tokens, more than the bid."
    size = sum(len(message.content.encode("utf-8", "replace")) for message in request.messages)
    if quote.prompt_tokens > size + TEMPLATE_TOKENS_A_TURN * (len(request.messages) + 1):
        return "The peer counts more prompt tokens than the prompt has bytes."
    return None


async def _tell(updates: trio.MemorySendChannel[JobUpdate], update: JobUpdate) -> None:
    """A user who no longer listens is no error: leaving the block cancels the job."""
    try:
        await updates.send(update)
    except trio.BrokenResourceError:
        return
