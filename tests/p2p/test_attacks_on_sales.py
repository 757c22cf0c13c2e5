"""What a hostile requester or provider tries on the job protocol, and what it gets for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from trio.testing import MockClock

from core.framing import FrameDecoder, encode_frame
from core.job import JobId, JobState, PeerId
from core.payments.voucher import CLAIM_LIFE_S, MAX_CLAIM_LIFE_S, UNPROVEN
from p2p.identity import Identity
from p2p.job_request import JobOver, JobText, JobUpdate, request_job
from p2p.job_sales import JobSales
from p2p.messages import (
    MAX_PROVIDER_FRAME_BYTES,
    Chunk,
    Pay,
    PayerProof,
    Propose,
    ProviderMessage,
    Quoted,
    Rejected,
    Resume,
    Resumed,
    quote_bytes,
)
from p2p.token_bucket import Rate
from p2p.trust import Fault
from tests.p2p.fakes import (
    PAYER,
    FakeHost,
    FakePayer,
    MemoryStream,
    a_proof,
    a_quote,
    a_request,
    a_voucher,
    sales_ports,
    stream_pair,
)

PROVIDER = Identity(b"\x07" * 32)
ATTACKER = Identity(b"\x08" * 32).peer_id
NOT_THE_PAYER = b"\x43" * 32


class Attack:
    """One hostile peer and a shop."""

    def __init__(self, host: FakeHost, *, each: Rate) -> None:
        self.host = host
        self.faults: list[tuple[PeerId, Fault]] = []
        self.sales = JobSales(host, PROVIDER, ports=sales_ports(self.faults, each=each))
        self.nursery: trio.Nursery | None = None
        self.theirs: list[MemoryStream] = []

    def stream(self, peer: PeerId = ATTACKER) -> MemoryStream:
        ours, theirs = stream_pair()
        self.theirs.append(theirs)
        assert self.nursery is not None
        self.nursery.start_soon(self.sales.serve, theirs, peer)
        return ours

    async def proposed(self, proof: PayerProof, job_id: str = "job-1") -> ProviderMessage:
        stream = self.stream()
        await stream.write(encode_frame(Propose(a_request(job_id), PAYER, proof)))
        return await answer(stream)


@asynccontextmanager
async def attacked(host: FakeHost | None = None, *, each: Rate = Rate(1e6, 1e6)) -> AsyncIterator[Attack]:  # noqa: B008
    attack = Attack(host or FakeHost(["w"] * 1_000, pace_s=0.05), each=each)
    async with trio.open_nursery() as attack.nursery:
        await attack.nursery.start(attack.sales.run)
        yield attack
        attack.nursery.cancel_scope.cancel()


async def answer(stream: MemoryStream) -> ProviderMessage:
    decoder: FrameDecoder[ProviderMessage] = FrameDecoder(ProviderMessage, max_frame_bytes=MAX_PROVIDER_FRAME_BYTES)
    while not (heard := decoder.feed(await stream.read())):
        continue
    return heard[0]


PROVIDER_ID = PROVIDER.peer_id
FORGED = {
    "signed_by_another_key": a_proof("job-1", PROVIDER_ID, key=NOT_THE_PAYER),
    "seen_at_another_provider": a_proof("job-1", ATTACKER),
    "made_for_another_job": a_proof("job-2", PROVIDER_ID),
    "with_a_later_end": msgspec.structs.replace(a_proof("job-1", PROVIDER_ID), expires=1_000_000_700),
    "no_signature_at_all": PayerProof(1_000_000_600, "0x" + "00" * 64),
}


@pytest.mark.parametrize("proof", FORGED.values(), ids=FORGED.keys())
async def test_naming_another_payer_gets_no_quote_and_is_counted(proof: PayerProof, autojump_clock: MockClock) -> None:
    async with attacked() as attack:
        said = await attack.proposed(proof)
        assert isinstance(said, Rejected)
        assert said.reject.reason == UNPROVEN
        assert attack.host.peer == ""
        assert attack.faults == [(ATTACKER, Fault.FALSE_PROOF)]


@pytest.mark.parametrize("lives_s", [0, -1, MAX_CLAIM_LIFE_S + 1])
async def test_a_proof_out_of_its_time_is_refused_in_words_and_blamed_on_nobody(
    lives_s: int, autojump_clock: MockClock
) -> None:
    async with attacked() as attack:
        said = await attack.proposed(a_proof("job-1", PROVIDER_ID, lives_s=lives_s))
        assert isinstance(said, Rejected)
        assert "Check the clock" in said.reject.reason
        assert attack.faults == []


@pytest.mark.parametrize("skew_s", [-300, 300])
async def test_a_payer_whose_clock_is_five_minutes_wrong_is_served(skew_s: int, autojump_clock: MockClock) -> None:
    async with attacked() as attack:
        said = await attack.proposed(a_proof("job-1", PROVIDER_ID, lives_s=CLAIM_LIFE_S + skew_s))
        assert isinstance(said, Quoted)


async def test_a_flood_of_proposals_is_told_when_to_come_again_and_counted(autojump_clock: MockClock) -> None:
    async with attacked(each=Rate(per_s=2.0, burst=5.0)) as attack:
        said = [await attack.proposed(a_proof(f"job-{n}", PROVIDER_ID), f"job-{n}") for n in range(8)]
        assert [type(message) for message in said] == [Quoted] * 5 + [Rejected] * 3
        last = said[-1]
        assert isinstance(last, Rejected)
        assert 0 < last.reject.retry_after_s <= 0.5
        assert attack.faults == [(ATTACKER, Fault.TOO_OFTEN)] * 3


async def test_a_flood_of_resumes_counts_like_proposals(autojump_clock: MockClock) -> None:
    async with attacked(each=Rate(per_s=2.0, burst=5.0)) as attack:
        for number in range(8):
            stream = attack.stream()
            await stream.write(encode_frame(Resume(JobId(f"job-{number}"), 0)))
            assert isinstance(await answer(stream), Rejected)
        assert attack.faults == [(ATTACKER, Fault.TOO_OFTEN)] * 3


async def test_the_job_id_of_a_job_that_is_held_cannot_be_taken(autojump_clock: MockClock) -> None:
    async with attacked() as attack:
        stream = attack.stream()
        await stream.write(encode_frame(Propose(a_request(), PAYER, a_proof("job-1", PROVIDER_ID))))
        assert isinstance(await answer(stream), Quoted)
        await stream.write(encode_frame(Pay(a_voucher(100))))
        assert isinstance(await answer(stream), Chunk)
        await stream.reset()
        await trio.sleep(1)
        assert isinstance(await attack.proposed(a_proof("job-1", PROVIDER_ID)), Rejected)
        assert len(attack.sales) == 1


async def test_garbage_under_a_running_job_ends_it_at_once_and_is_blamed(autojump_clock: MockClock) -> None:
    async with attacked() as attack:
        stream = attack.stream()
        await stream.write(encode_frame(Propose(a_request(), PAYER, a_proof("job-1", PROVIDER_ID))))
        assert isinstance(await answer(stream), Quoted)
        await stream.write(encode_frame(Pay(a_voucher(100))))
        assert isinstance(await answer(stream), Chunk)
        await stream.write(b"\xff" * 40)
        await trio.sleep(1)
        assert attack.host.cancelled == "The requester broke the protocol."
        assert len(attack.sales) == 0
        assert attack.theirs[0].blamed == 1


async def test_a_line_that_breaks_is_blamed_on_nobody(autojump_clock: MockClock) -> None:
    async with attacked() as attack:
        stream = attack.stream()
        await stream.write(encode_frame(Propose(a_request(), PAYER, a_proof("job-1", PROVIDER_ID))))
        assert isinstance(await answer(stream), Quoted)
        await stream.reset()
        await trio.sleep(20)
        assert attack.theirs[0].blamed == 0
        assert attack.faults == []
        assert len(attack.sales) == 0  # nothing was paid, so nothing is held


@pytest.mark.parametrize("lie", [Resumed(0), Resumed(5), Chunk(0, "again", 1), Chunk(9, "skipped", 9)], ids=repr)
async def test_a_provider_that_goes_on_elsewhere_is_blamed(lie: ProviderMessage, autojump_clock: MockClock) -> None:
    lines = [stream_pair(), stream_pair()]
    request, opened = a_request(), iter(lines)

    async def reopen() -> MemoryStream:
        return next(opened)[0]

    async def lying_provider() -> None:
        first, second = lines[0][1], lines[1][1]
        quote = a_quote(request)
        await first.read()
        await first.write(encode_frame(Quoted(quote, PROVIDER.sign(quote_bytes(quote)))))
        await first.read()
        await first.write(encode_frame(Chunk(0, "once ", 1)))
        await trio.sleep(0.1)
        await first.reset()
        await second.read()
        await second.write(encode_frame(lie))

    seen: list[JobUpdate] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lying_provider)
        stream = await reopen()
        async with request_job(stream, request, payer=FakePayer(), peer=PROVIDER_ID, reopen=reopen) as updates:
            seen = [update async for update in updates]
    assert "".join(update.text for update in seen if isinstance(update, JobText)) == "once "
    assert isinstance(seen[-1], JobOver)
    assert seen[-1].state is JobState.FAILED
    assert "did not keep to the protocol" in seen[-1].reason
    assert lines[1][0].blamed == 1
