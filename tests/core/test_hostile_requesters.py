"""The job desk against requesters who want work for nothing, somebody else's money, or everybody's place."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from core.job import ChatMessage, JobId, JobRequest, JobState, PeerId, Usage, charge
from core.job_desk import (
    MAX_DECLINES_A_SECOND,
    MAX_LIVE_A_PAYER,
    MAX_MODEL_CHARS,
    MAX_QUOTED_A_PEER,
    NO_PROGRESS_S,
)
from core.job_history import MAX_DECLINED_JOBS
from core.offer import Quote, Reject
from core.payments.channel import PaymentChannel
from core.payments.voucher import Party, address_of, sign_voucher
from core.proposal import MAX_MESSAGES
from core.worker import messages as w
from tests.core.desk_bench import DOMAIN, PAYER, PRICE, PROMPT_TOKENS, WORKER, Bench, FakeServer

PROMPT_COST = charge(PRICE, Usage(PROMPT_TOKENS, 0))


class SlowServer(FakeServer):
    """A worker that counts when it is allowed to, and takes commands when it is allowed to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_count = trio.Event()
        self.may_send = trio.Event()

    async def count(self, job_id: JobId, messages: tuple[ChatMessage, ...], *, deadline_s: float) -> int | None:
        await self.may_count.wait()
        return PROMPT_TOKENS

    async def send(self, command: w.WorkerCommand) -> None:
        await super().send(command)
        await self.may_send.wait()


def slow(bench: Bench) -> SlowServer:
    server = SlowServer()
    server.scheduler = bench.server.scheduler
    bench.desk._server = server  # type: ignore[assignment]
    return server


async def asked(bench: Bench, name: str, *, peer: str = "p") -> Quote | Reject:
    return await bench.desk.quote(bench.request(name), PAYER, peer=PeerId(peer))


async def test_a_lower_voucher_that_nobody_signed_spends_nobodys_credit(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.quoted("j1")
    await bench.desk.accept_payment(JobId("j1"), bench.voucher(500))
    await bench.quoted("theirs")
    forged = msgspec.structs.replace(bench.voucher(0), cumulative=1, signature="0x" + "00" * 64)
    assert "not signed" in str(await bench.desk.accept_payment(JobId("theirs"), forged))
    assert isinstance(await bench.desk.start(JobId("theirs")), str)


async def test_a_job_that_is_paid_from_credit_is_billed_like_any_other(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    old = bench.voucher(1)
    await bench.quoted("j1")
    await bench.desk.accept_payment(JobId("j1"), bench.voucher(99))
    await bench.quoted("j2")
    assert await bench.desk.accept_payment(JobId("j2"), old) == PROMPT_COST
    assert JobId("j2") in bench.journal.state.jobs
    await bench.desk.start(JobId("j2"))
    await bench.desk._dispatch()
    await bench.desk.handle(w.Started(JobId("j2"), PROMPT_TOKENS))
    await bench.completes(5, "j2")
    assert bench.journal.state.ledger.lanes[PAYER.id].billed == PROMPT_COST + 10


async def test_credit_is_spent_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    paid_ahead = bench.voucher(3 * PROMPT_COST)
    started = 0
    for number in range(6):
        name = f"j{number}"
        await bench.quoted(name)
        await bench.desk.accept_payment(JobId(name), paid_ahead)
        if isinstance(await bench.desk.start(JobId(name)), str):
            continue
        started += 1
        await bench.desk._dispatch()
        await bench.desk.handle(w.Started(JobId(name), PROMPT_TOKENS))
        await bench.completes(0, name)
        bench.now += 60
    assert started == 3


async def test_windows_cannot_be_had_for_nothing_for_ever(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    served = 0
    for number in range(100):
        name = f"j{number}"
        answer = await asked(bench, name)
        if isinstance(answer, Reject):
            assert "unpaid" in answer.reason
            break
        await bench.desk.accept_payment(JobId(name), bench.voucher(PROMPT_COST))
        await bench.desk.start(JobId(name))
        await bench.desk._dispatch()
        await bench.desk.handle(w.Started(JobId(name), PROMPT_TOKENS))
        await bench.makes(range(1, 9), name)
        await bench.completes(8, name)
        bench.now += 60
        served += 1
    assert served < 15


async def test_one_who_pays_is_not_refused_for_a_broken_line_now_and_then(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for number in range(50):
        name = f"j{number}"
        await bench.running(name)
        await bench.makes(range(1, 9), name)
        await bench.completes(8, name)
        if number % 10:
            await bench.desk.accept_payment(JobId(name), bench.voucher(16))
        bench.now += 60
    assert isinstance(await asked(bench, "last"), Quote)


async def test_ended_jobs_that_are_not_paid_yet_count_among_a_payers_jobs(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for number in range(MAX_LIVE_A_PAYER):
        await bench.running(f"j{number}")
        await bench.makes(range(1, 9), f"j{number}")
        await bench.completes(8, f"j{number}")
    answer = await asked(bench, "one-more")
    assert isinstance(answer, Reject)
    assert answer.reason == "Too many jobs at once."


async def test_one_peer_cannot_take_every_place_for_quotes(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.server.scheduler._policy = msgspec.structs.replace(bench.server.scheduler._policy, backlog_cap_s=1e9)
    answers = [await asked(bench, f"j{number}") for number in range(MAX_QUOTED_A_PEER + 1)]
    assert isinstance(answers[-1], Reject)
    assert isinstance(await asked(bench, "other", peer="q"), Quote)


async def test_proposals_that_wait_for_a_count_are_bounded_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    server = slow(bench)
    answers: list[Quote | Reject] = []

    async def ask(number: int) -> None:
        answers.append(await asked(bench, f"j{number}"))

    async with trio.open_nursery() as nursery:
        for number in range(3 * MAX_QUOTED_A_PEER):
            nursery.start_soon(ask, number)
        await trio.testing.wait_all_tasks_blocked()
        assert len(answers) == 2 * MAX_QUOTED_A_PEER
        server.may_count.set()


async def test_a_job_id_is_taken_as_soon_as_it_is_asked_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    server = slow(bench)
    answers: list[Quote | Reject] = []

    async def ask(peer: str) -> None:
        answers.append(await asked(bench, "same", peer=peer))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "p")
        nursery.start_soon(ask, "q")
        await trio.testing.wait_all_tasks_blocked()
        server.may_count.set()
    assert sorted(type(answer).__name__ for answer in answers) == ["Quote", "Reject"]


async def test_strangers_cannot_make_the_desk_remember_them(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.server.scheduler._policy = msgspec.structs.replace(bench.server.scheduler._policy, backlog_cap_s=1e9)
    for number in range(200):
        payer = Party(f"0x{number:040x}", PAYER.hot)
        await bench.desk.quote(bench.request(f"j{number}"), payer, peer=PeerId("p"))
        bench.now += 1.0
    assert len(bench.desk._lanes._channels) <= MAX_QUOTED_A_PEER


async def test_what_is_told_of_a_refused_job_has_a_bounded_size(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    asking = bench.request("j1")
    terms = msgspec.structs.replace(asking.terms, model="x" * 1_000_000, bid_per_mtok=10**4_000)
    answer = await bench.desk.quote(JobRequest(terms, asking.messages), PAYER, peer=PeerId("p"))
    assert isinstance(answer, Reject)
    assert len(bench.journal.state.ended[0].terms.model) == MAX_MODEL_CHARS
    assert len(msgspec.json.encode(bench.journal.state)) < 10_000


async def test_an_amount_beyond_all_money_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    asking = bench.request("j1")
    terms = msgspec.structs.replace(asking.terms, bid_per_mtok=10**400)
    answer = await bench.desk.quote(JobRequest(terms, asking.messages), PAYER, peer=PeerId("p"))
    assert isinstance(answer, Reject)


async def test_refused_jobs_do_not_push_served_ones_out_of_sight(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.running("j1")
    await bench.completes(5, "j1")
    bench.refusal = "This peer is paused."
    for number in range(600):
        bench.now += 1.0
        await asked(bench, f"n{number}")
    ended = bench.journal.state.ended
    assert [job.terms.job_id for job in ended if job.state is JobState.FINISHED] == ["j1"]
    assert len(ended) == MAX_DECLINED_JOBS + 1


async def test_a_job_that_ends_while_another_starts_never_reaches_the_worker(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for name in ("j1", "j2"):
        await bench.quoted(name)
        await bench.desk.accept_payment(JobId(name), bench.voucher(PROMPT_COST))
        await bench.desk.start(JobId(name))
    server = slow(bench)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.desk._dispatch)
        await trio.testing.wait_all_tasks_blocked()
        await bench.desk._payment_lock.acquire()
        nursery.start_soon(bench.desk.cancel, JobId("j2"), "The requester left.")
        await trio.testing.wait_all_tasks_blocked()
        server.may_send.set()
        await trio.testing.wait_all_tasks_blocked()
        bench.desk._payment_lock.release()
    assert [command.job_id for command in server.told if isinstance(command, w.Generate)] == ["j1"]


async def test_a_quote_that_expires_while_its_payment_is_written_is_still_a_job(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.quoted("j1")
    record = bench.journal.record

    async def slowly(*events: object) -> None:
        bench.now += 60
        bench.desk._forget(bench.now)
        await record(*events)  # type: ignore[arg-type]

    bench.journal.record = slowly  # type: ignore[method-assign]
    assert await bench.desk.accept_payment(JobId("j1"), bench.voucher(PROMPT_COST)) == PROMPT_COST
    assert not isinstance(await bench.desk.start(JobId("j1")), str)
    assert set(bench.journal.state.jobs) == set(bench.desk._live) == {"j1"}


async def test_an_end_is_written_whole_even_while_its_stream_is_cut(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.quoted("j1")
    await bench.desk.accept_payment(JobId("j1"), bench.voucher(PROMPT_COST))
    async with trio.open_nursery() as nursery:
        await bench.desk._payment_lock.acquire()
        nursery.start_soon(bench.desk.cancel, JobId("j1"), "The requester left.")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        bench.desk._payment_lock.release()
    assert bench.desk.live == 0
    assert not bench.journal.state.jobs


async def test_a_slow_chain_holds_up_nobody_elses_payment(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    key = bytes(range(2, 34))
    poor = Party("0x" + "55" * 20, address_of(key))
    await bench.quoted("j1")
    await bench.desk.quote(bench.request("poor"), poor, peer=PeerId("q"))

    async def never(payer: Party) -> PaymentChannel | None:
        await trio.sleep_forever()
        return None

    bench.desk._ports = msgspec.structs.replace(bench.desk._ports, fresh_channel=never)
    greedy = sign_voucher(key, DOMAIN, payer=poor, worker=WORKER.id, cumulative=10**12)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.desk.accept_payment, JobId("poor"), greedy)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(2):
            assert await bench.desk.accept_payment(JobId("j1"), bench.voucher(PROMPT_COST)) == PROMPT_COST
        nursery.cancel_scope.cancel()


async def test_a_long_prompt_is_not_taken_for_a_requester_who_does_not_pay(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(tmp_path)
    await bench.running("j1")
    bench.now += 300
    with trio.move_on_after(3):
        await bench.desk.watch_stalls()
    assert w.Cancel(JobId("j1")) not in bench.server.told
    await bench.makes(range(1, 9), "j1")
    bench.now += 40
    with trio.move_on_after(3):
        await bench.desk.watch_stalls()
    assert w.Cancel(JobId("j1")) not in bench.server.told  # its line may have broken, and nobody needs the slot
    bench.now += 90
    with trio.move_on_after(3):
        await bench.desk.watch_stalls()
    assert bench.server.told[-1] == w.Cancel(JobId("j1"))


async def test_a_flood_of_refusals_is_not_a_flood_of_news(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.refusal = "This peer is paused."
    for number in range(600):
        assert isinstance(await asked(bench, f"n{number}"), Reject)
    assert bench.journal.state.declined == MAX_DECLINES_A_SECOND


async def test_a_job_that_does_not_move_at_all_is_given_up(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(tmp_path)
    await bench.running("j1")
    bench.now += NO_PROGRESS_S + 1
    with trio.move_on_after(3):
        await bench.desk.watch_stalls()
    assert bench.desk._live[JobId("j1")].cancel_reason == "The worker made no progress."


async def test_a_prompt_is_let_go_when_its_job_ends(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.running("j1")
    await bench.completes(5, "j1")
    ended = bench.desk._lanes.find(JobId("j1"))
    assert ended is not None
    assert ended.request.messages == ()


@pytest.mark.parametrize(
    "messages",
    [
        (ChatMessage("user", "x" * 100_000_000),),
        (ChatMessage("x" * 10_000_000, "x"),),
        (ChatMessage("user", "x"),) * (MAX_MESSAGES + 1),
        (),
    ],
    ids=["text", "role", "turns", "nothing"],
)
async def test_a_giant_prompt_is_refused_before_anyone_reads_it(
    tmp_path: Path, messages: tuple[ChatMessage, ...]
) -> None:
    bench = Bench(tmp_path)
    tracemalloc.start()
    answer = await bench.desk.quote(JobRequest(bench.request("j1").terms, messages), PAYER, peer=PeerId("p"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(answer, Reject)
    assert peak < 1_000_000
    assert bench.server.told == []


async def test_a_peer_whose_worker_is_down_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.server.is_ready = False
    answer = await asked(bench, "j1")
    assert isinstance(answer, Reject)
    assert answer.reason == "The worker is being started again." and answer.retry_after_s > 0


async def test_why_a_prompt_cannot_be_counted_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def count(job_id: JobId, messages: tuple[ChatMessage, ...], *, deadline_s: float) -> str:
        return "A message's role must be system, user or assistant."

    bench.server.count = count  # type: ignore[method-assign, assignment]
    answer = await asked(bench, "j1")
    assert isinstance(answer, Reject) and answer.reason.startswith("A message's role")
