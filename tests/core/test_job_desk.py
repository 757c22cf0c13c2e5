"""The job desk: quotes, payments, allowances, ends. A fake worker server; real journal, scheduler and signatures."""

from __future__ import annotations

from pathlib import Path

import msgspec
import trio

from core.admission import Speed
from core.job import (
    ChatMessage,
    FinishReason,
    JobId,
    JobRequest,
    JobState,
    JobTerms,
    PeerId,
    Price,
    PriorityClass,
    Sampling,
    Timing,
    Usage,
    charge,
)
from core.job_desk import DeskPorts, JobDesk, Terms
from core.job_output import JobOutput, OutputChunk, OutputDue, OutputEnded
from core.journal import Journal
from core.offer import Quote, Reject
from core.payments.channel import PaymentChannel
from core.payments.voucher import EscrowDomain, Party, Voucher, address_of, sign_voucher
from core.plan import Plan
from core.scheduler import Scheduler
from core.settings import Settings
from core.state import earnings
from core.store import Store
from core.worker import messages as w
from core.worker.process import WorkerDied

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


async def test_a_job_runs_one_window_ahead_of_its_payments(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    output = await bench.running()
    generate = bench.server.told[-1]
    assert isinstance(generate, w.Generate)
    assert generate.allowance == 8
    await bench.makes(range(1, 9))
    due = [x for x in drained(output) if isinstance(x, OutputDue)]
    assert due
    last = due[-1].amount
    assert await bench.desk.accept_payment(JobId("j1"), bench.voucher(last - 10)) == last
    allow = bench.server.told[-1]
    assert isinstance(allow, w.Allow)
    assert allow.allowance == (last - 10) // 2 + 8


async def test_a_finished_job_is_on_disk_with_what_it_cost_and_can_still_be_paid(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    output = await bench.running()
    await bench.makes(range(1, 6))
    await bench.completes(5)
    ended = drained(output)[-1]
    assert ended == OutputEnded(JobState.FINISHED, "stop", Usage(10, 5), 20)
    assert await bench.desk.accept_payment(JobId("j1"), bench.voucher(10)) == 20
    state = Journal(Store(tmp_path / "s.db")).state
    assert state.ended[0].amount == state.ended[0].vouchered == 20
    assert earnings(state).earned == 20


async def test_no_payment_no_job(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.quoted()
    assert isinstance(await bench.desk.start(JobId("j1")), str)
    assert await bench.desk.accept_payment(JobId("j1"), bench.voucher(9)) == 9
    assert isinstance(await bench.desk.start(JobId("j1")), str)


async def test_a_forged_voucher_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.quoted()
    stranger = Party(PAYER.owner, address_of(bytes(range(2, 34))))
    signed = sign_voucher(bytes(range(2, 34)), DOMAIN, payer=stranger, worker=WORKER.id, cumulative=50)
    forged = msgspec.structs.replace(signed, payer=PAYER)
    assert "not signed" in str(await bench.desk.accept_payment(JobId("j1"), forged))
    assert earnings(bench.journal.state).earned == 0


async def test_cancelling_bills_only_delivered_tokens(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    output = await bench.running()
    await bench.makes(range(1, 4))
    await bench.desk.cancel(JobId("j1"), "The requester left.")
    assert bench.server.told[-1] == w.Cancel(JobId("j1"))
    fault = w.JobFault(JobId("j1"), w.FaultKind.CANCELLED, "cancelled", Usage(10, 3))
    await bench.desk.handle(fault)
    assert drained(output)[-1] == OutputEnded(JobState.CANCELLED, "The requester left.", Usage(10, 3), 16)


async def test_a_job_cancelled_before_its_prompt_is_read_costs_nothing_and_leaves_credit(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.quoted()
    await bench.desk.accept_payment(JobId("j1"), bench.voucher(10))
    await bench.desk.start(JobId("j1"))
    await bench.desk.cancel(JobId("j1"), "The requester left.")
    assert bench.journal.state.ended[0].amount == 0
    await bench.quoted("j2")
    assert await bench.desk.accept_payment(JobId("j2"), bench.voucher(0)) == 10


async def test_a_dead_worker_fails_what_had_begun_and_requeues_what_had_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = await bench.running("j1")
    await bench.makes(range(1, 3), "j1")
    second = await bench.running("j2")
    await bench.desk.handle(WorkerDied("it was killed by SIGKILL", None))
    last = drained(first)[-1]
    assert isinstance(last, OutputEnded)
    assert last.state is JobState.FAILED
    assert last.amount == 14
    assert not drained(second)
    await bench.desk._dispatch()
    assert isinstance(bench.server.told[-1], w.Generate)
    await bench.makes(range(1, 3), "j2")
    assert isinstance(drained(second)[0], OutputChunk)


async def test_vouchers_of_two_jobs_in_the_wrong_order_pay_both(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.quoted("j1")
    await bench.quoted("j2")
    first, second = bench.voucher(10), bench.voucher(10)
    assert await bench.desk.accept_payment(JobId("j2"), second) == 10
    assert await bench.desk.accept_payment(JobId("j1"), first) == 10
    assert earnings(bench.journal.state).earned == 20


async def test_a_pause_refuses_with_its_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.refusal = "This peer is paused."
    answer = await bench.desk.quote(bench.request(), PAYER, peer=PeerId("p"))
    assert isinstance(answer, Reject)
    assert answer.reason == "This peer is paused."
    assert bench.journal.state.declined == 1


async def test_an_unpaid_remainder_is_written_off_at_the_next_quote(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.running("j1")
    await bench.makes(range(1, 6))
    await bench.completes(5)
    bench.now += 60
    await bench.quoted("j2")
    assert await bench.desk.accept_payment(JobId("j2"), bench.voucher(10)) == 10


async def test_a_job_that_ended_unpaid_does_not_hold_up_the_next(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.running("j1")
    await bench.makes(range(1, 6), "j1")
    await bench.completes(5, "j1")
    await bench.quoted("j2")
    late = bench.voucher(10)
    first = bench.voucher(10)
    assert await bench.desk.accept_payment(JobId("j2"), first) == 10
    assert await bench.desk.accept_payment(JobId("j1"), late) == 20
    assert earnings(bench.journal.state).earned == 30


async def test_a_job_ends_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    output = await bench.running()
    await bench.completes(3)
    await bench.desk.handle(WorkerDied("it was killed by SIGKILL", None))
    assert len([x for x in drained(output) if isinstance(x, OutputEnded)]) == 1
    assert bench.journal.state.total.finished == 1
