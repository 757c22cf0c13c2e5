"""One payer and the queue: all of it while nobody else asks, half of it otherwise."""

from __future__ import annotations

from pathlib import Path

import trio

from core.job import ChatMessage, JobId, JobRequest, JobTerms, PeerId, PriorityClass, Usage, charge
from core.offer import Quote, Reject
from core.payments.voucher import Party
from core.worker import messages as w
from tests.core.desk_bench import PAYER, PRICE, PROMPT_TOKENS, Bench

OTHER = Party("0x" + "77" * 20, "0x" + "88" * 20)


def batch(name: str) -> JobRequest:
    terms = JobTerms(JobId(name), "demo", PriorityClass.BATCH, deadline_s=3_000.0, max_tokens=900)
    return JobRequest(terms, (ChatMessage("user", "hello"),))


async def asked(bench: Bench, payer: Party, name: str) -> Quote | Reject:
    peer = PeerId(f"{payer.id}-{name}")
    return await bench.desk.quote(batch(name), payer, peer=peer)


async def fill(bench: Bench, payer: Party, prefix: str) -> int:
    """Ask until there is no more; how many got a place."""
    for number in range(1_000):
        if isinstance(await asked(bench, payer, f"{prefix}{number}"), Reject):
            return number
    raise AssertionError("there was no end")


async def test_alone_a_payer_may_fill_the_queue_and_in_company_half_of_it(tmp_path: Path) -> None:
    alone = await fill(Bench(tmp_path / "alone"), PAYER, "a")
    bench = Bench(tmp_path / "company")
    assert isinstance(await asked(bench, OTHER, "first"), Quote)
    half = await fill(bench, PAYER, "a")
    assert alone / 2 - 1 <= half <= alone / 2 + 1
    assert isinstance(await asked(bench, OTHER, "second"), Quote)
    refused = await asked(bench, PAYER, "more")
    assert isinstance(refused, Reject)
    assert refused.retry_after_s > 0


async def test_a_quote_that_is_let_go_frees_its_place(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    places = await fill(bench, PAYER, "a")
    await bench.desk.cancel(JobId("a0"), "Another peer was sooner.")
    assert places > 0
    assert isinstance(await asked(bench, PAYER, "again"), Quote)


async def test_who_does_not_pay_goes_after_half_a_minute_when_others_wait_for_the_slot(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(tmp_path)
    for name in ("j1", "j2"):
        await bench.running(name)
    await bench.makes(range(1, 9), "j1")
    await bench.quoted("j3")
    await bench.desk.accept_payment(JobId("j3"), bench.voucher(charge(PRICE, Usage(PROMPT_TOKENS, 0))))
    await bench.desk.start(JobId("j3"))
    bench.now += 40
    with trio.move_on_after(3):
        await bench.desk.watch_stalls()
    assert w.Cancel(JobId("j1")) in bench.server.told
