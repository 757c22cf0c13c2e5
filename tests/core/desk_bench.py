"""A job desk on a fake worker server, with a real journal, scheduler and signatures, and a payer who signs."""

from __future__ import annotations

from pathlib import Path

import trio

from core.admission import Speed
from core.job import (
    ChatMessage,
    FinishReason,
    JobId,
    JobRequest,
    JobTerms,
    PeerId,
    Price,
    PriorityClass,
    Sampling,
    Timing,
    Usage,
    charge,
)
from core.job_desk import DeskPorts, JobDesk
from core.job_output import JobOutput
from core.journal import Journal
from core.lane_book import Terms
from core.offer import Quote
from core.payments.channel import PaymentChannel
from core.payments.voucher import EscrowDomain, Party, Voucher, address_of, sign_voucher
from core.plan import Plan
from core.scheduler import Scheduler
from core.settings import Settings
from core.store import Store
from core.worker import messages as w

KEY = bytes(range(1, 33))
PAYER = Party("0x" + "11" * 20, address_of(KEY))
WORKER = Party("0x" + "22" * 20, "0x" + "33" * 20)
DOMAIN = EscrowDomain(31_337, "0x" + "44" * 20)
PRICE = Price(1_000_000, 2_000_000)
PROMPT_TOKENS = 10


class FakeServer:
    """A worker that does nothing by itself: it remembers what it was told."""

    def __init__(self) -> None:
        self.plan = Plan("demo", "llama.cpp", "F16", slots=2, slot_context_tokens=1024)
        self.scheduler = Scheduler(Speed(1000.0, 0.01, 0.1, 2, 128))
        self.is_ready = True
        self.told: list[w.WorkerCommand] = []

    async def send(self, command: w.WorkerCommand) -> None:
        self.told.append(command)

    async def count(self, job_id: JobId, messages: tuple[ChatMessage, ...], *, deadline_s: float) -> int | None:
        return PROMPT_TOKENS


class Bench:
    """A desk on a fake server, and a payer who signs."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(Store(folder / "s.db"))
        self.server = FakeServer()
        self.now = 1_000.0
        self.refusal: str | None = None
        self.signed = 0
        settings = Settings(window_tokens=8, unsecured_credit=1_000_000)
        ports = DeskPorts(lambda: self.refusal, lambda: PRICE, self._channel, self._channel, lambda: self.now)
        self.desk = JobDesk(self.journal, self.server, terms=Terms(WORKER, DOMAIN, settings), ports=ports)  # type: ignore[arg-type]

    async def _channel(self, payer: Party) -> PaymentChannel:
        lane = self.journal.state.ledger.lanes.get(payer.id)
        cumulative, signature = (lane.cumulative, lane.signature) if lane is not None else (0, "")
        return PaymentChannel(payer, WORKER.id, cumulative, signature, reserved=10_000_000, free=1_000_000)

    def request(self, name: str = "j1", max_tokens: int = 100) -> JobRequest:
        terms = JobTerms(JobId(name), "demo", PriorityClass.STANDARD, max_tokens=max_tokens)
        return JobRequest(terms, (ChatMessage("user", "hello"),), Sampling(max_tokens=max_tokens))

    def voucher(self, added: int) -> Voucher:
        self.signed += added
        return sign_voucher(KEY, DOMAIN, payer=PAYER, worker=WORKER.id, cumulative=self.signed)

    async def quoted(self, name: str = "j1") -> Quote:
        quote = await self.desk.quote(self.request(name), PAYER, peer=PeerId("p"))
        assert isinstance(quote, Quote)
        return quote

    async def running(self, name: str = "j1") -> trio.MemoryReceiveChannel[JobOutput]:
        await self.quoted(name)
        assert await self.desk.accept_payment(JobId(name), self.voucher(charge(PRICE, Usage(PROMPT_TOKENS, 0)))) == 10
        output = await self.desk.start(JobId(name))
        assert not isinstance(output, str)
        await self.desk._dispatch()
        await self.desk.handle(w.Started(JobId(name), PROMPT_TOKENS))
        return output

    async def makes(self, tokens: range, name: str = "j1") -> None:
        for total in tokens:
            await self.desk.handle(w.Chunks((w.Chunk(JobId(name), "x", total),)))

    async def completes(self, tokens: int, name: str = "j1") -> None:
        usage, timing = Usage(PROMPT_TOKENS, tokens), Timing(0.1, 1.0, 0.1)
        await self.desk.handle(w.Completed(JobId(name), FinishReason.STOP, usage, timing))


def drained(output: trio.MemoryReceiveChannel[JobOutput]) -> list[JobOutput]:
    found: list[JobOutput] = []
    try:
        while True:
            found.append(output.receive_nowait())
    except (trio.WouldBlock, trio.EndOfChannel):
        return found
