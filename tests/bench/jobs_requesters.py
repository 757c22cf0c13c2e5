"""The requesters of the jobs benchmark: they ask, sign real vouchers, read what comes, and some leave in the middle."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Callable

import trio

from core.job import ChatMessage, JobId, JobRequest, JobTerms, PeerId, Price, PriorityClass, Sampling, Usage, charge
from core.job_desk import JobDesk
from core.job_output import JobOutput, OutputChunk, OutputDue, OutputEnded
from core.offer import Quote
from core.payments.voucher import EscrowDomain, Party, Voucher, address_of, sign_voucher

WORKER = Party("0x" + "22" * 20, "0x" + "33" * 20)
DOMAIN = EscrowDomain(31_337, "0x" + "44" * 20)
PRICE = Price(1_000_000, 2_000_000)
MODEL = "demo"
CANCELLED_SHARE = 0.1
LONGEST_ANSWER = 40
ASK_AGAIN_S = 0.1
LOST_AFTER_S = 120.0
WORDS = ("What does ENOENT mean?", "Name a month.", "What is 12 plus 7?", "Which signal is number 9?", "Say hello.")


class Payer:
    """One who pays for several jobs at once from one lane: a cumulative that never falls."""

    def __init__(self, number: int) -> None:
        self._key = bytes([number + 1] * 32)
        self.party = Party(f"0x{number + 1:040x}", address_of(self._key))
        self._owed = 0
        self.signed = 0

    def voucher(self, change: int) -> Voucher:
        """Owe so much more, or less; what was signed and is not owed any more serves the next job."""
        self._owed += change
        self.signed = max(self.signed, self._owed)
        return sign_voucher(self._key, DOMAIN, payer=self.party, worker=WORKER.id, cumulative=self.signed)


class Tally:
    """What each job was delivered and how often it was told its end, in arrays that do not grow."""

    def __init__(self, jobs: int) -> None:
        self.delivered = array("i", [0] * jobs)
        self.ends = array("b", [0] * jobs)
        self.cancels = 0
        self.refusals: Counter[str] = Counter()


class Requesters:
    """Own the numbers of the jobs that are still to be asked for."""

    def __init__(self, desk: JobDesk, tally: Tally, *, payers: list[Payer], seed: int) -> None:
        self._desk = desk
        self._tally = tally
        self._payers = payers
        self._chance = random.Random(seed)
        self._next = 0

    async def ask(self, jobs: int, *, on_paid: Callable[[int], None]) -> None:
        """One requester: one job after the other while there are any."""
        while self._next < jobs:
            number = self._next
            self._next += 1
            await self._one(number, on_paid)

    async def _one(self, number: int, on_paid: Callable[[int], None]) -> None:
        payer = self._payers[number % len(self._payers)]
        request = self._request(number)
        quote = await self._quoted(request, payer)
        leaves_after = self._leaves_after()
        prompt = charge(PRICE, Usage(quote.prompt_tokens, 0))
        await self._desk.accept_payment(quote.job_id, payer.voucher(prompt))
        on_paid(number)
        if leaves_after == 0:
            await self._leave(quote.job_id)
        output = await self._desk.start(quote.job_id)
        if isinstance(output, str):
            self._tally.ends[number] += 1
            payer.voucher(-prompt)
            return
        reading = _Reading(self._desk, payer, paid=prompt, job_id=quote.job_id)
        with trio.fail_after(LOST_AFTER_S):
            async for told in output:
                await self._hear(number, reading, told=told)
                if leaves_after is not None and 0 < leaves_after <= self._tally.delivered[number]:
                    leaves_after = None
                    await self._leave(quote.job_id)

    async def _hear(self, number: int, reading: _Reading, *, told: JobOutput) -> None:
        match told:
            case OutputChunk():
                self._tally.delivered[number] = told.completion_tokens
            case OutputDue():
                await reading.pay(told.amount)
            case OutputEnded():
                self._tally.ends[number] += 1
                await reading.pay(told.amount)

    async def _leave(self, job_id: JobId) -> None:
        self._tally.cancels += 1
        await self._desk.cancel(job_id, "The requester left.")

    async def _quoted(self, request: JobRequest, payer: Payer) -> Quote:
        with trio.fail_after(LOST_AFTER_S):
            while True:
                answer = await self._desk.quote(request, payer.party, peer=PeerId(payer.party.owner))
                if isinstance(answer, Quote):
                    return answer
                self._tally.refusals[answer.reason] += 1
                await trio.sleep(ASK_AGAIN_S)

    def _request(self, number: int) -> JobRequest:
        tokens = self._chance.randint(1, LONGEST_ANSWER)
        terms = JobTerms(JobId(f"j{number}"), MODEL, PriorityClass.BATCH, deadline_s=600.0, max_tokens=tokens)
        heat = self._chance.choice((0.0, 1.0))
        sampling = Sampling(max_tokens=tokens, temperature=heat, seed=number, ignore_eos=self._chance.random() < 0.5)
        return JobRequest(terms, (ChatMessage("user", self._chance.choice(WORDS)),), sampling)

    def _leaves_after(self) -> int | None:
        """After how many tokens this one leaves; 0 is before the start, None is never."""
        return self._chance.choice((0, 1, 5, 20)) if self._chance.random() < CANCELLED_SHARE else None


class _Reading:
    """What one job has been paid so far."""

    def __init__(self, desk: JobDesk, payer: Payer, *, paid: int, job_id: JobId) -> None:
        self._desk = desk
        self._payer = payer
        self._paid = paid
        self._job_id = job_id

    async def pay(self, amount: int) -> None:
        change = amount - self._paid
        self._paid = amount
        voucher = self._payer.voucher(change)
        if change > 0:
            await self._desk.accept_payment(self._job_id, voucher)
