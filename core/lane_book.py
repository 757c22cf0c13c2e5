"""The payment side of the job desk: what each payer's vouchers are worth, and which jobs have taken how much of it.

Decides with core.payments and remembers; never waits, and never asks the chain: channels are brought to it. Holds
nothing of a payer who has no open job but what was written off for those who have signed here before.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from core import events as e
from core.job import JobId, Price, Usage, charge
from core.journal import Journal
from core.live_job import LiveJob
from core.payments.channel import PaymentChannel, VoucherRejected, accept, voucher_fault
from core.payments.credit import lane_credit
from core.payments.ledger import Lane
from core.payments.voucher import EscrowDomain, Party, Voucher
from core.settings import Settings

SETTLING_S = 130.0  # longer than a result is held for a requester whose line broke
MAX_UNPAID_WINDOWS = 8
UNPAID_SHARE = 10


class Terms(msgspec.Struct, frozen=True):
    """What this peer trades under: who is paid, in which escrow, and how far it trusts."""

    worker: Party
    domain: EscrowDomain
    settings: Settings


class LaneBook:
    """Owned by the job desk, which keeps the open jobs; the jobs that have ended and may still be paid are here."""

    def __init__(self, journal: Journal, terms: Terms) -> None:
        self._journal = journal
        self._terms = terms
        self._channels: dict[str, PaymentChannel] = {}
        self._forgiven: dict[str, int] = {}
        self._settling: dict[JobId, tuple[LiveJob, float]] = {}

    def find(self, job_id: JobId) -> LiveJob | None:
        """The ended job of this id, while it may still be paid."""
        known = self._settling.get(job_id)
        return known[0] if known is not None else None

    def know(self, channel: PaymentChannel) -> None:
        """Take a payer's channel as the chain and the ledger have it, or as a voucher has made it."""
        self._channels[channel.payer.id] = channel

    def cumulative(self, live: LiveJob) -> int:
        """What this job's payer has signed so far."""
        return self._channel(live).cumulative

    def judge(self, live: LiveJob, voucher: Voucher, *, now: float) -> PaymentChannel | str:
        """The channel with this voucher in it, or the fault. A lower one than another stream brought first is no fault
        if the payer has signed it: it adds nothing."""
        channel = self._channel(live)
        domain = self._terms.domain
        if channel.signature and voucher.cumulative < channel.cumulative:
            return voucher_fault(channel, voucher, domain=domain) or channel
        credit = min(self._terms.settings.unsecured_credit, channel.free)
        judged = accept(channel, voucher, domain=domain, credit_cap=credit, now=now)
        return judged.fault if isinstance(judged, VoucherRejected) else judged

    def spread(self, live: LiveJob, open_jobs: Iterable[LiveJob]) -> list[LiveJob]:
        """Use a voucher that came with this job: for it first, then for those of its payer that are short, since
        another job's voucher may have come before theirs. Returns the jobs that were paid for."""
        jobs = tuple(open_jobs)
        short = [job for job in jobs if job.payer_id == live.payer_id and job is not live]
        before = {job.job_id: job.paid for job in short}
        for job in (live, *sorted(short, key=lambda job: job.is_taken)):
            self.pay(job, jobs)
        return [live, *(job for job in short if job.paid > before[job.job_id])]

    def pay(self, live: LiveJob, open_jobs: Iterable[LiveJob]) -> None:
        """Give a job its part of what its payer's lane holds, at most what it has asked for."""
        wanted = live.amount if live.job_id in self._settling else live.due
        live.paid += max(0, min(self._credit(live.payer_id, open_jobs), wanted - live.paid))

    def settle(self, live: LiveJob, *, now: float) -> None:
        """The job has ended, and its fact is on disk: its last payment may come for a while."""
        live.paid = min(live.paid, live.amount)
        self._settling[live.job_id] = (live, now + SETTLING_S)

    def unpaid_jobs(self, payer: str) -> int:
        """How many ended jobs of this payer wait for their last payment."""
        return sum(job.payer_id == payer and job.paid < job.amount for job, _ in self._settling.values())

    def refusal(self, payer: str, price: Price) -> str | None:
        """Why this payer gets no more work, or None. A window now and then is lost on a broken line; whoever leaves
        more unpaid than that, and more than a tenth of what they have paid, lives on other people's electricity."""
        lane = self._journal.state.ledger.lanes.get(payer)
        if lane is None:
            return None
        window = charge(price, Usage(0, self._terms.settings.window_tokens))
        if self._written_off(payer, lane) <= MAX_UNPAID_WINDOWS * window + lane.cumulative // UNPAID_SHARE:
            return None
        return "This payer has left too many answers unpaid here."

    def forget(self, now: float, open_payers: Iterable[str]) -> None:
        """Write off what was not paid in its time, and let go of the channels that no job needs."""
        for job_id, (live, until) in tuple(self._settling.items()):
            if until <= now:
                del self._settling[job_id]
                unpaid = max(0, live.amount - live.paid)
                self._forgiven[live.payer_id] = self._forgiven.get(live.payer_id, 0) + unpaid
        kept = {*open_payers, *(live.payer_id for live, _ in self._settling.values())}
        self._channels = {payer: channel for payer, channel in self._channels.items() if payer in kept}

    def voucher_facts(self, live: LiveJob, accepted: PaymentChannel, *, now: float) -> list[e.Fact]:
        """What to write down of an accepted voucher; nothing if it adds nothing."""
        before = self._channel(live).cumulative
        if accepted.cumulative <= before:
            return []
        fact = e.VoucherAccepted(
            at=now,
            job_id=live.job_id,
            payer=live.payer_id,
            payer_owner=live.payer.owner,
            payer_hot=live.payer.hot,
            cumulative=accepted.cumulative,
            signature=accepted.signature,
            added=accepted.cumulative - before,
            is_secured=accepted.unsecured == 0,
            redeemed=accepted.redeemed,
        )
        return [fact]

    def _channel(self, live: LiveJob) -> PaymentChannel:
        return self._channels.get(live.payer_id) or PaymentChannel(live.payer, self._terms.worker.id)

    def _credit(self, payer: str, open_jobs: Iterable[LiveJob]) -> int:
        """What a payer has signed and no job has taken; ended jobs that may still be paid hold what they took."""
        lane = self._journal.state.ledger.lanes.get(payer)
        if lane is None:
            return 0
        settling = [job for job, _ in self._settling.values() if job.payer_id == payer]
        held = sum(job.paid for job in (*settling, *open_jobs) if job.payer_id == payer)
        billed = lane.billed - sum(job.amount for job in settling) - self._written_off(payer, lane)
        return lane_credit(lane.cumulative, billed, held=held)

    def _written_off(self, payer: str, lane: Lane) -> int:
        """What this payer has left unpaid for good, from before this desk on."""
        return self._forgiven.setdefault(payer, max(0, lane.billed - lane.cumulative))
