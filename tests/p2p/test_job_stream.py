"""Whole jobs between JobSales and request_job, over streams in memory and a clock that jumps."""

from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import MockClock

from core.framing import encode_frame
from core.job import JobId, JobState, PeerId, Usage, charge
from core.job_output import JobOutput
from core.offer import Quote
from core.payments.voucher import Voucher
from p2p.byte_stream import StreamBroken
from p2p.identity import Identity
from p2p.job_request import JobOver, JobPaid, JobQuoted, JobText, JobUpdate, quote_objection, request_job
from p2p.messages import PayerProof, Propose
from tests.p2p.fakes import (
    PAYER,
    PRICE,
    PROMPT_TOKENS,
    FakeHost,
    FakePayer,
    MemoryStream,
    a_proof,
    a_quote,
    a_request,
    sales_of,
    stream_pair,
)

IDENTITY = Identity(b"\x07" * 32)
HUNG_UP = "The peer did not keep to the protocol: it hung up before the job was over."
ASKER = Identity(b"\x08" * 32).peer_id


async def serve(stream: MemoryStream, host: FakeHost) -> None:
    """Serve one stream; what it leaves behind is stopped."""
    sales = sales_of(host, IDENTITY)
    async with trio.open_nursery() as nursery:
        await nursery.start(sales.run)
        await sales.serve(stream, ASKER)
        nursery.cancel_scope.cancel()


async def ask(host: FakeHost, payer: FakePayer, **terms: int) -> list[JobUpdate]:
    ours, theirs = stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, host)
        request = a_request(**terms)
        async with request_job(ours, request, payer=payer, peer=IDENTITY.peer_id) as updates:
            return [update async for update in updates]


def over(updates: list[JobUpdate]) -> JobOver:
    last = updates[-1]
    assert isinstance(last, JobOver)
    return last


async def test_a_whole_job_is_delivered_and_paid_to_the_unit(autojump_clock: MockClock) -> None:
    host, payer = FakeHost(f"w{i} " for i in range(40)), FakePayer()
    updates = await ask(host, payer)
    assert isinstance(updates[0], JobQuoted)
    assert "".join(u.text for u in updates if isinstance(u, JobText)) == "".join(host.words)
    cost = charge(PRICE, Usage(PROMPT_TOKENS, 40))
    assert over(updates) == JobOver(JobState.FINISHED, "stop", Usage(PROMPT_TOKENS, 40), cost, cost)
    assert host.paid == cost
    assert payer.signed == sorted(payer.signed)


async def test_the_first_token_comes_alone_and_later_ones_together(autojump_clock: MockClock) -> None:
    updates = await ask(FakeHost(["a", "b", "c", "d"], window_tokens=64), FakePayer())
    assert [u.text for u in updates if isinstance(u, JobText)] == ["a", "bcd"]


async def test_a_refusal_reaches_the_requester_with_its_reason(autojump_clock: MockClock) -> None:
    updates = await ask(FakeHost([], refusal="The owner is playing."), FakePayer())
    assert over(updates) == JobOver(JobState.DECLINED, "The owner is playing.", retry_after_s=1.0)


async def test_an_empty_wallet_ends_the_job_and_delivered_tokens_stay_owed(autojump_clock: MockClock) -> None:
    host = FakeHost("w" * 60)
    ended = over(await ask(host, FakePayer(purse=10)))
    assert (ended.state, ended.reason) == (JobState.CANCELLED, "The wallet is empty.")
    assert ended.paid <= 10
    assert host.ended is not None
    assert ended.usage == host.ended.usage


async def test_no_more_than_max_total_is_ever_signed(autojump_clock: MockClock) -> None:
    payer = FakePayer()
    ended = over(await ask(FakeHost("w" * 60), payer, max_total=20))
    assert ended.state is JobState.CANCELLED
    assert max(payer.signed) <= 20


async def test_leaving_early_cancels_and_pays_delivered_tokens_only(autojump_clock: MockClock) -> None:
    host, payer = FakeHost(["w"] * 1_000, pace_s=0.01), FakePayer()
    ours, theirs = stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, host)
        request = a_request(max_tokens=1_000)
        async with request_job(ours, request, payer=payer, peer=IDENTITY.peer_id) as updates:
            async for update in updates:
                if isinstance(update, JobText) and update.completion_tokens > 20:
                    break
    assert host.cancelled == "The requester cancelled."
    assert host.ended is not None
    assert 20 < host.ended.usage.completion_tokens < 100
    assert host.paid == host.ended.amount == payer.signed[-1]


async def test_a_killed_provider_is_a_clear_failure(autojump_clock: MockClock) -> None:
    ours, theirs = stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, FakeHost(["w"] * 1_000, pace_s=0.01))
        async with request_job(ours, a_request(max_tokens=1_000), payer=FakePayer(), peer=IDENTITY.peer_id) as updates:
            seen: list[JobUpdate] = []
            async for update in updates:
                seen.append(update)
                if isinstance(update, JobPaid) and update.amount > 10:
                    await theirs.reset()
    assert over(seen).state is JobState.FAILED
    assert over(seen).usage.completion_tokens > 0


async def test_a_silent_provider_is_given_up_after_fifteen_seconds(autojump_clock: MockClock) -> None:
    ours, _theirs = stream_pair()
    began = trio.current_time()
    async with request_job(ours, a_request(), payer=FakePayer(), peer=IDENTITY.peer_id) as updates:
        seen = [update async for update in updates]
    assert over(seen).reason == "The peer said nothing for 15 seconds."
    assert trio.current_time() - began < 25


async def test_a_silent_requester_is_let_go_after_five_seconds(autojump_clock: MockClock) -> None:
    ours, theirs = stream_pair()
    began = trio.current_time()
    await serve(theirs, FakeHost([]))
    assert trio.current_time() - began == pytest.approx(5.0)
    with pytest.raises(StreamBroken):
        await ours.write(b"late")


async def test_a_slow_job_lives_on_keeps(autojump_clock: MockClock) -> None:
    updates = await ask(FakeHost(["a", "b"], pace_s=100.0), FakePayer())
    assert over(updates).state is JobState.FINISHED


async def test_a_requester_that_vanishes_stops_its_job_when_the_peer_leaves(autojump_clock: MockClock) -> None:
    host = FakeHost(["w"] * 1_000, pace_s=0.05)
    ours, theirs = stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, host)
        async with request_job(ours, a_request(max_tokens=1_000), payer=FakePayer(), peer=IDENTITY.peer_id) as updates:
            async for update in updates:
                if isinstance(update, JobText):
                    await ours.reset()
    assert host.cancelled == "This peer left the network."


class NoStart(FakeHost):
    async def start(self, job_id: JobId) -> trio.MemoryReceiveChannel[JobOutput] | str:
        return "The model was taken away."


class NoEnd(FakeHost):
    async def start(self, job_id: JobId) -> trio.MemoryReceiveChannel[JobOutput] | str:
        send, receive = trio.open_memory_channel[JobOutput](1)
        send.close()
        return receive


class Broken(FakeHost):
    async def accept_payment(self, job_id: JobId, voucher: Voucher) -> int | str:
        raise ZeroDivisionError


class Slow(FakeHost):
    async def accept_payment(self, job_id: JobId, voucher: Voucher) -> int | str:
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        (NoStart([]), "The model was taken away."),
        (NoEnd([]), "The job ended without a result."),
        (Broken([]), HUNG_UP),
        (Slow([]), HUNG_UP),
    ],
)
async def test_a_host_that_fails_fails_one_job(host: FakeHost, reason: str, autojump_clock: MockClock) -> None:
    ended = over(await ask(host, FakePayer()))
    assert (ended.state, ended.reason, ended.amount) == (JobState.FAILED, reason, 0)


async def test_a_payer_that_does_not_answer_ends_the_job(autojump_clock: MockClock) -> None:
    class Stuck(FakePayer):
        async def pay(self, quote: Quote, amount: int) -> Voucher | str:
            await trio.sleep_forever()
            return ""

    ended = over(await ask(FakeHost(["a"]), Stuck()))
    assert ended.reason == "The wallet did not answer."
    assert ended.paid == 0


@pytest.mark.parametrize(
    ("bid", "prompt_tokens", "objects"),
    [(0, 10, False), (999_999, 10, True), (1_000_000, 10, False), (0, 500, True)],
)
def test_a_quote_is_refused_for_its_price_or_its_count(bid: int, prompt_tokens: int, objects: bool) -> None:
    request = a_request()
    request = msgspec.structs.replace(request, terms=msgspec.structs.replace(request.terms, bid_per_mtok=bid))
    quote = msgspec.structs.replace(a_quote(request), prompt_tokens=prompt_tokens)
    assert (quote_objection(request, quote) is not None) == objects


@pytest.mark.parametrize("garbage", [b"\xff" * 20, b"\x02{}", b"GET / HTTP/1.1\r\n\r\n", b""])
async def test_garbage_ends_the_stream_and_nothing_else(garbage: bytes, autojump_clock: MockClock) -> None:
    ours, theirs = stream_pair()
    if garbage:
        await ours.write(garbage)
    else:
        await ours.close()
    host = FakeHost([])
    await serve(theirs, host)
    assert host.peer == ""


async def test_a_job_over_the_limits_is_refused_before_the_host_sees_it(autojump_clock: MockClock) -> None:
    ours, theirs = stream_pair()
    host = FakeHost([])
    await ours.write(encode_frame(Propose(a_request("bad id!"), PAYER, a_proof("bad id!", IDENTITY.peer_id))))
    await ours.close()
    await serve(theirs, host)
    assert b"rejected" in await ours.read()
    assert host.peer == ""


async def test_a_quote_signed_by_someone_else_is_not_paid(autojump_clock: MockClock) -> None:
    class Careless(FakePayer):
        def prove(self, job_id: JobId, provider: PeerId) -> PayerProof:
            return a_proof(job_id, IDENTITY.peer_id)

    ours, theirs = stream_pair()
    payer = Careless()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, FakeHost(["a"]))
        async with request_job(ours, a_request(), payer=payer, peer=ASKER) as updates:
            seen = [update async for update in updates]
    assert over(seen).reason == "The peer did not keep to the protocol: the quote is not signed by it."
    assert payer.signed == []
