"""The requester's side of a job stream: proposes, pays as the answer comes, and tells its user what happened.

Never pays more than the job's max_total or for more than one window beyond what was delivered. A peer's misbehaviour is
a JobOver with its reason, never an exception to the caller.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, assert_never

import msgspec
import trio

from core.job import JobRequest, JobState, PeerId, Usage, charge
from core.offer import Quote
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
    Propose,
    ProviderMessage,
    Quoted,
    Rejected,
    RequesterMessage,
    quote_bytes,
)
from p2p.protocol_error import RemoteProtocolError

CANCEL_S = 3.0
PAY_S = 10.0
UPDATES = 64
TEMPLATE_TOKENS_A_TURN = 64

Link = JobLink[RequesterMessage, ProviderMessage]


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

    async def pay(self, quote: Quote, amount: int) -> Voucher | str:
        """A voucher to the quote's worker that brings what was signed for this job (quote.job_id) to amount in all, in
        smallest units; or why not. Asked again with the same amount, it gives the same voucher again."""


@asynccontextmanager
async def request_job(
    stream: ByteStream, request: JobRequest, *, payer: Payer, peer: PeerId
) -> AsyncIterator[trio.MemoryReceiveChannel[JobUpdate]]:
    """Run a job on this stream to that peer; its updates end with one JobOver. Leaving early cancels the job, pays what
    was delivered, and takes up to CANCEL_S."""
    send, updates = trio.open_memory_channel[JobUpdate](UPDATES)
    async with trio.open_nursery() as nursery, updates:
        nursery.start_soon(_RequesterEnd(stream, request, payer=payer, peer=peer).run, send)
        yield updates
        nursery.cancel_scope.cancel()


class _RequesterEnd:
    """One job at one peer."""

    def __init__(self, stream: ByteStream, request: JobRequest, *, payer: Payer, peer: PeerId) -> None:
        self._stream = stream
        self._request = request
        self._payer = payer
        self._peer = peer
        self._conversation = JobRequester()
        self._link: Link = JobLink(stream, self._conversation)
        self._quote: Quote | None = None
        self._signed = 0
        self._objection = ""

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
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._link.keep_alive)
            over = await self._follow(updates)
            nursery.cancel_scope.cancel()
        return over

    async def _follow(self, updates: trio.MemorySendChannel[JobUpdate]) -> JobOver:
        try:
            await self._link.send(Propose(self._request, self._payer.party))
            while (message := await self._link.receive()) is not None:
                if (over := await self._heed(message, updates)) is not None:
                    return over
        except (StreamBroken, RemoteProtocolError) as error:
            return self._broken(error)
        return self._broken(StreamBroken("The peer closed the stream."))

    async def _heed(self, message: ProviderMessage, updates: trio.MemorySendChannel[JobUpdate]) -> JobOver | None:
        match message:
            case Quoted():
                await self._accept(message, updates)
            case Chunk(text=text, completion_tokens=tokens):
                await _tell(updates, JobText(text, tokens))
            case AmountDue(amount=amount):
                await self._pay(amount, updates)
            case Keep():
                pass
            case Rejected(reject=reject):
                return JobOver(JobState.DECLINED, reject.reason, retry_after_s=reject.retry_after_s)
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

    async def _finish(self, last: Finished | Failed) -> JobOver:
        """Pay what is still owed, within the job's limit, and tell the end."""
        limit = self._request.terms.max_total
        owed = min(last.amount, limit) if limit else last.amount
        if owed > self._signed:
            voucher = await self._sign(owed)
            if not isinstance(voucher, str):
                await self._link.send(Pay(voucher))
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
        if self._conversation.phase in (Phase.PROPOSED, Phase.QUOTED, Phase.RUNNING):
            await self._object("The job was cancelled.")
        while not self._conversation.is_over and self._conversation.phase is not Phase.OPEN:
            message = await self._link.receive()
            if isinstance(message, Finished | Failed):
                await self._finish(message)
        await self._link.hang_up()

    def _broken(self, error: StreamBroken | RemoteProtocolError) -> JobOver:
        is_ours = isinstance(error, StreamBroken)
        reason = str(error) if is_ours else f"The peer did not keep to the protocol: {error}."
        usage = self._conversation.usage
        amount = charge(self._quote.price, usage) if self._quote is not None else 0
        return JobOver(JobState.FAILED, self._objection or reason, usage, amount, self._signed)


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
