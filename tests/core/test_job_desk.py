"""The job desk: quotes, payments, allowances, ends. A fake worker server; real journal, scheduler and signatures."""

from __future__ import annotations

from pathlib import Path

import msgspec
import trio

from core.job import JobId, JobState, PeerId, Usage
from core.job_output import OutputChunk, OutputDue, OutputEnded
from core.journal import Journal
from core.offer import Reject
from core.payments.voucher import Party, address_of, sign_voucher
from core.state import earnings
from core.store import Store
from core.worker import messages as w
from core.worker.process import WorkerDied
from tests.core.desk_bench import DOMAIN, PAYER, WORKER, Bench, drained


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


async def test_a_job_waits_for_credit_that_another_took_before_its_voucher_came(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    running = await bench.running("j1")
    await bench.makes(range(1, 9), "j1")
    due = [x for x in drained(running) if isinstance(x, OutputDue)][-1].amount
    await bench.quoted("j2")
    await bench.quoted("j3")
    half, second, third = bench.voucher(2), bench.voucher(10), bench.voucher(10)
    rest = bench.voucher(due - 12)
    assert await bench.desk.accept_payment(JobId("j3"), third) == 10
    assert await bench.desk.accept_payment(JobId("j1"), half) == 22
    assert await bench.desk.accept_payment(JobId("j2"), second) == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.desk.accept_payment, JobId("j1"), rest)
        assert not isinstance(await bench.desk.start(JobId("j2")), str)


async def test_a_prompt_that_was_read_in_vain_costs_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    output = await bench.running()
    for _ in range(2):
        await bench.desk.handle(WorkerDied("it was killed by SIGSEGV", -11))
        await bench.desk._dispatch()
        await bench.desk.handle(w.Started(JobId("j1"), 10))
    reason = "The worker stopped while this job ran: it was killed by SIGSEGV."
    assert drained(output) == [OutputEnded(JobState.FAILED, reason, Usage(), 0)]
    assert bench.journal.state.ended[0].amount == 0


async def test_a_job_that_was_being_cancelled_when_its_worker_died_is_cancelled(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    output = await bench.running()
    await bench.makes(range(1, 4))
    await bench.desk.cancel(JobId("j1"), "The requester left.")
    await bench.desk.handle(WorkerDied("it was killed by SIGKILL", -9))
    assert drained(output)[-1] == OutputEnded(JobState.CANCELLED, "The requester left.", Usage(10, 3), 16)


async def test_a_worker_that_lies_bills_no_more_than_it_was_allowed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    output = await bench.running()
    await bench.desk.handle(w.Chunks((w.Chunk(JobId("j1"), "x", 5), w.Chunk(JobId("j1"), "x", 10**12))))
    await bench.desk.handle(w.Chunks((w.Chunk(JobId("j1"), "x", -4),)))
    await bench.completes(10**15)
    assert drained(output)[-1] == OutputEnded(JobState.FINISHED, "stop", Usage(10, 8), 26)


async def test_reports_of_jobs_that_are_not_there_change_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    ghost = JobId("ghost")
    await bench.desk.handle(w.Started(ghost, 10))
    await bench.makes(range(1, 100), "ghost")
    await bench.completes(100, "ghost")
    await bench.desk.handle(w.JobFault(ghost, w.FaultKind.INTERNAL, "x"))
    assert bench.journal.state.ended == ()
    assert bench.desk.tokens_made == 0
