"""A peer that leaves: its neighbours forget its offer, and what runs is brought to its end and paid."""

from __future__ import annotations

import time

import trio

from core.job import JobState
from p2p.job_request import JobOver, request_job
from p2p.job_sales import JobSales
from p2p.messages import JOB_PROTOCOL
from tests.p2p.fakes import FakeHost, FakePayer, a_request, an_offer
from tests.p2p.swarms import market, offers_found, until


async def test_an_offer_that_is_withdrawn_is_gone_at_the_neighbours_at_once() -> None:
    async with market(FakeHost([])) as (meeting, provider, stranger):
        await offers_found(stranger)
        await until(lambda: len(meeting.offers))
        began = time.monotonic()
        await provider.offers.withdraw_all()
        await until(lambda: not len(meeting.offers))
        assert time.monotonic() - began < 3


async def test_a_withdrawn_offer_can_be_made_again() -> None:
    async with market(FakeHost([])) as (meeting, provider, _):
        await until(lambda: len(meeting.offers))
        await provider.offers.withdraw_all()
        await until(lambda: not len(meeting.offers))
        offer = an_offer(provider.peer_id, expires_at=time.time() + 100, sequence=9)
        await provider.offers.announce(offer)
        await until(lambda: len(meeting.offers))


async def test_what_runs_is_finished_and_paid_before_a_peer_leaves() -> None:
    host, payer = FakeHost([f"w{i} " for i in range(40)], pace_s=0.005), FakePayer()
    async with market(host) as (_, provider, stranger):
        (offer, *_rest) = await offers_found(stranger)
        stream = await stranger.swarm.open(provider.peer_id, JOB_PROTOCOL, addresses=offer.addresses)
        settled: list[bool] = []

        async def leave(sales: JobSales) -> None:
            await until(lambda: any(job.is_carried for job in sales._jobs.values()))
            await sales.settle()
            settled.append(host.ended is not None and host.paid == host.ended.amount)

        async with trio.open_nursery() as nursery:
            assert provider.sales is not None
            nursery.start_soon(leave, provider.sales)
            async with request_job(stream, a_request(), payer=payer, peer=provider.peer_id) as updates:
                seen = [update async for update in updates]
        assert isinstance(seen[-1], JobOver)
        assert seen[-1].state is JobState.FINISHED
        assert settled == [True]
