"""Broken lines under running jobs: the requester comes back for the rest, and nothing is told, lost or billed twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from core.framing import encode_frame
from core.job import JobId, JobState, PeerId, PriorityClass, Usage, charge
from core.job_output import OutputEnded
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.identity import Identity
from p2p.job_record import JobRecord
from p2p.job_request import JobOver, JobText, JobUpdate, Reopen, request_job
from p2p.job_sales import HELD_S, JobSales
from p2p.job_stream import LEFT
from p2p.messages import Chunk, Resume
from p2p.protocol_error import LocalProtocolError
from p2p.swarm_errors import PeerUnreachable
from tests.p2p.fakes import (
    PRICE,
    PROMPT_TOKENS,
    FakeHost,
    FakePayer,
    MemoryStream,
    a_quote,
    a_request,
    sales_of,
    stream_pair,
)

IDENTITY = Identity(b"\x07" * 32)
ASKER = Identity(b"\x08" * 32).peer_id
OTHER = Identity(b"\x09" * 32).peer_id
WORDS = tuple(f"w{i} " for i in range(60))
COST = charge(PRICE, Usage(PROMPT_TOKENS, len(WORDS)))


class Flaky:
    """A line that breaks, both ways, after so many reads and writes together; it may swallow its last write."""

    def __init__(self, stream: MemoryStream, life: int, *, swallows: bool) -> None:
        self._stream = stream
        self._left = life
        self._swallows = swallows

    async def read(self) -> bytes:
        await self._use()
        return await self._stream.read()

    async def write(self, sent: bytes) -> None:
        await self._use()
        if self._left > 0 or not self._swallows:
            await self._stream.write(sent)

    async def close(self) -> None:
        await self._stream.close()

    async def reset(self) -> None:
        await self._stream.reset()

    def blame(self) -> None:
        self._stream.blame()

    async def _use(self) -> None:
        self._left -= 1
        if self._left < 0:
            await self._stream.reset()
            raise StreamBroken("The line broke.")


class Lines:
    """Lines to one provider; each of the first lives only so long."""

    swallow = False

    def __init__(self, sales: JobSales, nursery: trio.Nursery, lives: list[int], *, asker: PeerId = ASKER) -> None:
        self._sales = sales
        self._nursery = nursery
        self._lives = list(lives)
        self._asker = asker
        self.opened = 0

    async def open(self) -> ByteStream:
        ours, theirs = stream_pair()
        self.opened += 1
        self._nursery.start_soon(self._sales.serve, theirs, self._asker)
        return Flaky(ours, self._lives.pop(0) if self._lives else 1_000_000, swallows=self.swallow)


@asynccontextmanager
async def selling(host: FakeHost) -> AsyncIterator[tuple[JobSales, trio.Nursery]]:
    async with trio.open_nursery() as nursery:
        sales = sales_of(host, IDENTITY)
        await nursery.start(sales.run)
        yield sales, nursery
        nursery.cancel_scope.cancel()


async def follow(
    lines: Lines, payer: FakePayer, *, reopen: Reopen | None, priority: PriorityClass = PriorityClass.INTERACTIVE
) -> list[JobUpdate]:
    request = a_request(max_tokens=len(WORDS))
    request = msgspec.structs.replace(request, terms=msgspec.structs.replace(request.terms, priority=priority))
    stream = await lines.open()
    async with request_job(stream, request, payer=payer, peer=IDENTITY.peer_id, reopen=reopen) as updates:
        return [update async for update in updates]


def text_of(updates: list[JobUpdate]) -> str:
    return "".join(update.text for update in updates if isinstance(update, JobText))


def over(updates: list[JobUpdate]) -> JobOver:
    last = updates[-1]
    assert isinstance(last, JobOver)
    return last


@given(
    lives=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    pace_s=st.sampled_from([0.0, 0.03, 0.7]),
    swallow=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_over_any_cuts_the_text_comes_once_and_the_bill_is_the_same(
    lives: list[int], pace_s: float, swallow: bool
) -> None:
    """A line that lives for three moves brings the payment through, so that there is a job to come back for."""
    host, payer = FakeHost(WORDS, pace_s=pace_s), FakePayer()

    async def run() -> list[JobUpdate]:
        async with selling(host) as (sales, nursery):
            lines = Lines(sales, nursery, [max(7, lives[0]), *lives[1:]])
            lines.swallow = swallow
            return await follow(lines, payer, reopen=lines.open)

    updates = trio.run(run, clock=MockClock(autojump_threshold=0))
    assert text_of(updates) == "".join(WORDS)
    assert over(updates) == JobOver(JobState.FINISHED, "stop", Usage(PROMPT_TOKENS, len(WORDS)), COST, COST)
    assert host.paid == COST
    assert not host.cancelled


async def test_a_requester_that_never_comes_back_is_let_go_after_two_minutes(autojump_clock: MockClock) -> None:
    host = FakeHost(["w"] * 1_000, pace_s=0.05)
    async with selling(host) as (sales, nursery):
        lines = Lines(sales, nursery, [20])
        began = trio.current_time()
        ended = over(await follow(lines, FakePayer(), reopen=None))
        assert (ended.state, len(sales)) == (JobState.FAILED, 1)
        while not host.cancelled:
            await trio.sleep(1)
        assert host.cancelled == LEFT
        assert trio.current_time() - began == pytest.approx(HELD_S, abs=5)
        assert len(sales) == 0
        await trio.sleep(1)
        assert host.ended is not None
        assert host.ended.usage.completion_tokens < 100  # at most one window beyond what was paid


async def test_a_result_is_held_for_a_requester_that_was_away_for_a_minute(autojump_clock: MockClock) -> None:
    host, payer = FakeHost(WORDS, window_tokens=64, pace_s=0.1), FakePayer()
    async with selling(host) as (sales, nursery):
        lines = Lines(sales, nursery, [12])

        async def later() -> ByteStream:
            await trio.sleep(60)
            return await lines.open()

        updates = await follow(lines, payer, reopen=later, priority=PriorityClass.BATCH)
    assert text_of(updates) == "".join(WORDS)
    assert over(updates).state is JobState.FINISHED
    assert host.paid == COST


async def test_a_cancel_ends_a_job_at_once(autojump_clock: MockClock) -> None:
    host = FakeHost(["w"] * 1_000, pace_s=0.05)
    async with selling(host) as (sales, nursery):
        lines, began = Lines(sales, nursery, []), trio.current_time()
        request = a_request(max_tokens=1_000)
        async with request_job(await lines.open(), request, payer=FakePayer(), peer=IDENTITY.peer_id) as updates:
            async for update in updates:
                if isinstance(update, JobText):
                    break
        assert host.cancelled == "The requester cancelled."
        assert trio.current_time() - began < 5


async def test_nobody_else_may_resume_a_job(autojump_clock: MockClock) -> None:
    async with selling(FakeHost(["w"] * 1_000, pace_s=0.05)) as (sales, nursery):
        await follow(Lines(sales, nursery, [20]), FakePayer(), reopen=None)
        thief = await Lines(sales, nursery, [], asker=OTHER).open()
        await thief.write(encode_frame(Resume(JobId("job-1"), 0)))
        assert b"This job is not held here." in await thief.read()
        owner = await Lines(sales, nursery, []).open()
        await owner.write(encode_frame(Resume(JobId("job-1"), 0)))
        assert b"resumed" in await owner.read()


@pytest.mark.parametrize("seq", [-1, 10_000])
async def test_a_resume_from_where_the_answer_never_was_is_refused(seq: int, autojump_clock: MockClock) -> None:
    async with selling(FakeHost(["w"] * 1_000, pace_s=0.05)) as (sales, nursery):
        await follow(Lines(sales, nursery, [20]), FakePayer(), reopen=None)
        stream = await Lines(sales, nursery, []).open()
        await stream.write(encode_frame(Resume(JobId("job-1"), seq)))
        assert b"rejected" in await stream.read()


async def test_a_second_line_takes_the_place_of_one_that_hangs(autojump_clock: MockClock) -> None:
    async with selling(FakeHost(["w"] * 1_000, pace_s=0.05)) as (sales, nursery):
        lines, payer = Lines(sales, nursery, []), FakePayer()
        first = await lines.open()
        async with request_job(first, a_request(max_tokens=1_000), payer=payer, peer=IDENTITY.peer_id) as updates:
            async for update in updates:
                if isinstance(update, JobText):
                    break
            second = await lines.open()
            await second.write(encode_frame(Resume(JobId("job-1"), 0)))
            assert b"resumed" in await second.read()
            seen = [update async for update in updates]
        assert over(seen).state is JobState.FAILED


async def test_a_provider_that_is_gone_is_given_up(autojump_clock: MockClock) -> None:
    async def closed() -> ByteStream:
        raise PeerUnreachable("The peer does not answer.")

    began = trio.current_time()
    async with selling(FakeHost(["w"] * 1_000, pace_s=0.05)) as (sales, nursery):
        ended = over(await follow(Lines(sales, nursery, [20]), FakePayer(), reopen=closed))
    assert ended.state is JobState.FAILED
    assert ended.usage.completion_tokens > 0
    assert 20 < trio.current_time() - began < 40


async def test_a_provider_that_was_restarted_says_so_at_once(autojump_clock: MockClock) -> None:
    host = FakeHost(["w"] * 1_000, pace_s=0.05)
    async with selling(host) as (sales, nursery), selling(FakeHost([])) as (restarted, _):
        fresh = Lines(restarted, nursery, [])
        ended = over(await follow(Lines(sales, nursery, [20]), FakePayer(), reopen=fresh.open))
    assert ended.reason == "The line broke, and the peer does not go on. This job is not held here."
    assert ended.paid <= ended.amount


async def test_the_oldest_answers_go_when_too_many_are_held(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2p.job_sales.MAX_HELD", 3)
    async with trio.open_nursery() as nursery:
        sales = sales_of(FakeHost(["w"]), IDENTITY)
        await nursery.start(sales.run)
        for number in range(6):
            sales._host = FakeHost(["w"])
            lines = Lines(sales, nursery, [])
            request = a_request(f"job-{number}")
            async with request_job(await lines.open(), request, payer=FakePayer(), peer=IDENTITY.peer_id) as updates:
                assert over([update async for update in updates]).state is JobState.FINISHED
            await trio.sleep(3)
        assert len(sales) == 3
        nursery.cancel_scope.cancel()


def a_record(*, max_bytes: int = 1_000) -> JobRecord:
    request = a_request(max_tokens=1_000)
    return JobRecord(request, a_quote(request), max_bytes=max_bytes)


@given(st.lists(st.text(min_size=1, max_size=30), max_size=40), st.integers(20, 200))
@settings(max_examples=60, deadline=None)
def test_a_record_is_bounded_and_its_sums_go_on_from_any_held_chunk(texts: list[str], max_bytes: int) -> None:
    record = a_record(max_bytes=max_bytes)
    for number, text in enumerate(texts):
        record.add(text, number)
    record.end(OutputEnded(JobState.FINISHED, "stop", Usage(), 0))
    assert record.text_bytes <= max(max_bytes, max((len(text.encode()) for text in texts), default=0))
    assert record.last is not None
    held = [seq for seq in range(len(texts) + 1) if record.answer_at(seq) is not None]
    assert held == list(range(held[0], len(texts) + 1))
    for seq in held:
        answer = record.answer_at(seq)
        assert answer is not None
        for number in range(seq, len(texts)):
            chunk = record.chunk(number)
            assert chunk == Chunk(number, texts[number], number)
            answer.check(chunk)
        answer.check(record.last)


def test_a_record_refuses_what_does_not_add_up() -> None:
    record = a_record()
    record.add("a", 2)
    too_dear = OutputEnded(JobState.FINISHED, "stop", Usage(9, 9), 99)
    for fault in (partial(record.add, "b", 1), partial(record.end, too_dear)):
        with pytest.raises(LocalProtocolError):
            fault()
