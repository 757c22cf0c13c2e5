"""One round of a job: a few peers are asked at once, the best quote is taken, and its job is followed to its end.

Pays one peer only. Tells the user what the winner says, and nothing of the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import msgspec
import trio

from app.auction import Auction, BidderPayer
from core.job import JobRequest, JobState, PeerId
from core.offer import Quote
from p2p.byte_stream import ByteStream
from p2p.candidates import Picked
from p2p.job_request import JobOver, JobPaid, JobQuoted, JobText, JobUpdate, Payer, request_job
from p2p.messages import MAX_FAN_OUT, SignedOffer
from p2p.placement import choose
from p2p.swarm_errors import PeerUnreachable
from p2p.trust import Fault, Report, Trust

Tell = Callable[[JobUpdate], Awaitable[None]]


class RoundPorts(msgspec.Struct, frozen=True):
    """open: a job stream to an offer's peer, or PeerUnreachable; report: who hears of faults; clock: seconds since the
    epoch."""

    open: Callable[[SignedOffer], Awaitable[ByteStream]]
    payer: Payer
    trust: Trust
    report: Report
    clock: Callable[[], float]


class JobRound:
    """Made for one round. winner is who got the job, refused who will not be asked again for it."""

    def __init__(self, request: JobRequest, picked: Picked, *, ports: RoundPorts) -> None:
        fan_out = min(MAX_FAN_OUT, len(picked.offers))  # a provider counts a job that others were asked for too as less
        terms = msgspec.structs.replace(request.terms, fan_out=fan_out)
        self._request = msgspec.structs.replace(request, terms=terms)
        self._picked = picked
        self._ports = ports
        self._auction = Auction(len(picked.offers), self._best)
        self._ends: dict[PeerId, JobOver] = {}

    @property
    def winner(self) -> PeerId | None:
        """Who got the job."""
        return self._auction.winner

    @property
    def refused(self) -> set[PeerId]:
        """Who declined it, or failed."""
        return {peer for peer, over in self._ends.items() if over.state in (JobState.DECLINED, JobState.FAILED)}

    async def run(self, tell: Tell) -> JobOver:
        """The end of the job at the winner, or the best of the refusals."""
        async with trio.open_nursery() as nursery:
            for signed in self._picked.offers:
                nursery.start_soon(self._at, signed, tell)
        over = self._ends[self.winner] if self.winner is not None else _kindest(list(self._ends.values()))
        await tell(over)
        return over

    def _best(self, quotes: Mapping[PeerId, Quote]) -> PeerId | None:
        """A newcomer on trial where its quote will do, else the soonest, as far as each is believed."""
        bid, of = self._request.terms.bid_per_mtok, self._ports.trust.of
        on_trial = {peer: quote for peer, quote in quotes.items() if peer == self._picked.on_trial}
        for some in (on_trial, quotes):
            if best := choose(some, reputation=lambda peer: of(peer).reputation, bid_per_mtok=bid):
                return best
        return None

    async def _at(self, signed: SignedOffer, tell: Tell) -> None:
        peer = PeerId(signed.offer.peer_id)
        try:
            self._ends[peer] = over = await self._follow(signed, peer, tell=tell)
        finally:
            self._auction.pass_over(peer)
        if over.state is JobState.FAILED:
            self._ports.report(peer, Fault.BROKE_OFF)
        if over.state is JobState.FINISHED:
            self._ports.trust.note_finished(peer, now=self._ports.clock())

    async def _follow(self, signed: SignedOffer, peer: PeerId, *, tell: Tell) -> JobOver:
        over = JobOver(JobState.FAILED, "The peer closed the stream.")
        payer = BidderPayer(self._ports.payer, self._auction, peer=peer)
        first = _FirstToken(peer, self._ports)
        reopen = partial(self._ports.open, signed)
        try:
            stream = await reopen()
        except PeerUnreachable as error:
            return JobOver(JobState.DECLINED, str(error))
        async with request_job(stream, self._request, payer=payer, peer=peer, reopen=reopen) as updates:
            async for update in updates:
                first.see(update)
                if isinstance(update, JobOver):
                    over = update
                elif self.winner == peer:
                    await tell(update)
        return over


class _FirstToken:
    """Holds a peer to the time that it quoted for the first token, from when it was paid to begin."""

    def __init__(self, peer: PeerId, ports: RoundPorts) -> None:
        self._peer = peer
        self._ports = ports
        self._quoted_s = 0.0
        self._began = 0.0

    def see(self, update: JobUpdate) -> None:
        if isinstance(update, JobQuoted):
            self._quoted_s = update.quote.ttft_p90_s
        if isinstance(update, JobPaid):
            self._began = self._began or trio.current_time()
        if isinstance(update, JobText) and self._quoted_s > 0:
            measured_s, quoted_s = trio.current_time() - self._began, self._quoted_s
            now = self._ports.clock()
            self._ports.trust.note_first_token(self._peer, measured_s=measured_s, quoted_s=quoted_s, now=now)
            self._quoted_s = 0.0


def _kindest(refusals: list[JobOver]) -> JobOver:
    """The refusal that leaves most hope: the soonest time to ask again, if any."""
    return min(refusals, key=lambda over: over.retry_after_s or float("inf"))
