"""Several peers are asked for one job at once; one of their quotes is taken, and only that one is ever paid.

Decides once, when all have answered or a moment after the first quote: a quote is good for ten seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import trio

from core.job import JobId, PeerId
from core.offer import Quote
from core.payments.voucher import Party, Voucher
from p2p.job_request import Payer
from p2p.messages import PayerProof

GRACE_S = 0.4
LOST = "Another peer's quote was taken."

Choose = Callable[[Mapping[PeerId, Quote]], PeerId | None]


class Auction:
    """One job's quotes. winner is None until it is decided, and when nobody's quote would do."""

    def __init__(self, asked: int, choose: Choose) -> None:
        self._awaited = asked
        self._choose = choose
        self._quotes: dict[PeerId, Quote] = {}
        self._all_in = trio.Event()
        self._decide_at = 0.0
        self._is_decided = False
        self.winner: PeerId | None = None

    async def bid(self, peer: PeerId, quote: Quote) -> str | None:
        """Enter this peer's quote and wait for the decision: None for the winner, or why not."""
        if not self._is_decided and peer not in self._quotes:
            self._decide_at = self._decide_at or trio.current_time() + GRACE_S
            self._quotes[peer] = quote
            self._answered()
        if not self._is_decided:
            with trio.move_on_at(self._decide_at):
                await self._all_in.wait()
            self._decide()
        return None if self.winner == peer else LOST

    def pass_over(self, peer: PeerId) -> None:
        """This peer will not quote."""
        if peer not in self._quotes:
            self._answered()

    def _answered(self) -> None:
        self._awaited -= 1
        if self._awaited <= 0:
            self._all_in.set()

    def _decide(self) -> None:
        if not self._is_decided:
            self._is_decided = True
            self.winner = self._choose(self._quotes)


class BidderPayer:
    """A payer that pays this peer only if it wins. Implements the swarm's Payer."""

    def __init__(self, payer: Payer, auction: Auction, *, peer: PeerId) -> None:
        self._payer = payer
        self._auction = auction
        self._peer = peer

    @property
    def party(self) -> Party:
        """Whose money it is."""
        return self._payer.party

    def prove(self, job_id: JobId, provider: PeerId) -> PayerProof:
        """See Payer."""
        return self._payer.prove(job_id, provider)

    async def pay(self, quote: Quote, amount: int) -> Voucher | str:
        """See Payer. The first payment is asked for with the quote, and waits for the decision."""
        if (reason := await self._auction.bid(self._peer, quote)) is not None:
            return reason
        return await self._payer.pay(quote, amount)
