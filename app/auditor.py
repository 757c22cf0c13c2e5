"""Now and then asks two peers the same and compares, within what its owner lets it cost.

Pays for what it asks like anyone, and never more in all than its budget. Never logs an answer.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from app.job_round import JobRound, RoundPorts
from core.job import JobId, JobState, PeerId
from p2p.audit import most_cost, question, twins, wrong
from p2p.candidates import Picked
from p2p.job_request import JobText, JobUpdate
from p2p.messages import SignedOffer
from p2p.placement import Draw
from p2p.trust import Fault

log = logging.getLogger(__name__)

Settle = Callable[[JobId, int], Awaitable[None]]


class Audited(msgspec.Struct, frozen=True):
    """What one audit found: who was asked, who answered unlike the others, and what it cost in smallest units."""

    asked: tuple[PeerId, ...]
    wrong: tuple[PeerId, ...]
    cost: int


class Auditor:
    """One requester's audits. left is what may still be spent on them, in smallest units."""

    def __init__(self, budget: int, ports: RoundPorts, *, settle: Settle, draw: Draw) -> None:
        self.left = budget
        self._ports = ports
        self._settle = settle
        self._draw = draw
        self._is_busy = False

    async def audit(self, found: Sequence[SignedOffer]) -> Audited | None:
        """Compare two peers that sell the same file, and a third where they differ; None where there are no two, where
        the budget does not cover all three, or while another audit runs."""
        asked = twins(found, self._draw)
        if not asked or self._is_busy or sum(most_cost(signed.offer) for signed in asked) > self.left:
            return None
        self._is_busy = True
        try:
            return await self._compare(asked)
        finally:
            self._is_busy = False

    async def _compare(self, asked: tuple[SignedOffer, ...]) -> Audited:
        texts: dict[PeerId, str] = {}
        before, suspects = self.left, tuple[PeerId, ...]()
        numbers = [self._draw() for _ in range(8)]
        for signed in asked:
            text = await self._answer(signed, iter(numbers).__next__)
            if text is not None:
                texts[PeerId(signed.offer.peer_id)] = text
            suspects = wrong(texts)
            if len(texts) == 2 and not suspects:
                break
        self._hold_against(suspects, is_sure=len(texts) == 3)
        return Audited(tuple(texts), suspects, before - self.left)

    async def _answer(self, signed: SignedOffer, draw: Draw) -> str | None:
        """What this peer says; None if it does not finish."""
        job_id = JobId(secrets.token_hex(12))
        request = question(signed.offer.model, job_id, draw=draw, max_total=most_cost(signed.offer))
        said: list[str] = []

        async def hear(update: JobUpdate) -> None:
            if isinstance(update, JobText):
                said.append(update.text)

        round_ = JobRound(request, Picked((signed,)), ports=self._ports)
        over = await round_.run(hear)
        if round_.winner is not None:
            await self._settle(job_id, over.amount)
        self.left -= over.paid
        return "".join(said) if over.state is JobState.FINISHED else None

    def _hold_against(self, suspects: tuple[PeerId, ...], *, is_sure: bool) -> None:
        for peer in suspects:
            log.info("%s answers unlike others that sell the same file", peer)
            self._ports.report(peer, Fault.FAILED_AUDIT if is_sure else Fault.DOUBTED)
