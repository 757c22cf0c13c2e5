"""Whole swarms in one process over loopback: strangers meet through a bootstrap peer, and a job is sold."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from core.job import JobState, Usage, charge
from p2p.identity import Identity
from p2p.job_request import JobOver, JobUpdate, request_job
from p2p.job_stream import serve_job
from p2p.swarm import Swarm
from tests.p2p.fakes import PRICE, PROMPT_TOKENS, FakeHost, FakePayer, a_request, an_offer

NETWORK = "testnet"


@asynccontextmanager
async def running(*swarms: Swarm) -> AsyncIterator[trio.Nursery]:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for swarm in swarms:
                await nursery.start(lambda task_status, swarm=swarm: swarm.run(task_status=task_status))
            yield nursery
            nursery.cancel_scope.cancel()


def a_swarm(seed: int, bootstrap: tuple[str, ...] = (), *, port: int = 0, network: str = NETWORK) -> Swarm:
    return Swarm(Identity(bytes([seed]) * 32), port=port, bootstrap=bootstrap, network=network)


def a_provider(seed: int, bootstrap: tuple[str, ...], host: FakeHost) -> Swarm:
    identity = Identity(bytes([seed]) * 32)
    swarm = Swarm(identity, port=0, bootstrap=bootstrap, network=NETWORK)
    swarm.serve(lambda stream, peer: serve_job(stream, host, peer=peer, sign=identity.sign))
    return swarm


async def until(is_true: object) -> None:
    with trio.fail_after(5):
        while not is_true():  # type: ignore[operator]
            await trio.sleep(0.01)


async def test_a_stranger_finds_an_offer_through_the_bootstrap_peer_and_buys() -> None:
    meeting, host = a_swarm(1), FakeHost([f"w{i} " for i in range(30)])
    async with running(meeting) as nursery:
        provider = a_provider(2, meeting.addresses(), host)
        began = time.monotonic()
        await nursery.start(lambda task_status: provider.run(task_status=task_status))
        await until(lambda: provider.peer_count)
        assert time.monotonic() - began < 2
        await provider.announce(an_offer(provider.peer_id, expires_at=time.time() + 100))
        stranger = a_swarm(3, meeting.addresses())
        await nursery.start(lambda task_status: stranger.run(task_status=task_status))
        await until(lambda: stranger.peer_count)
        offers = []
        while not offers:
            offers = await stranger.find_offers("tiny", deadline_s=2)
        assert [signed.offer.peer_id for signed in offers] == [provider.peer_id]
        stream = await stranger.open_job(provider.peer_id, offers[0].addresses)
        updates: list[JobUpdate] = []
        async with request_job(stream, a_request(), payer=FakePayer(), peer=provider.peer_id) as channel:
            updates = [update async for update in channel]
        cost = charge(PRICE, Usage(PROMPT_TOKENS, 30))
        assert updates[-1] == JobOver(JobState.FINISHED, "stop", Usage(PROMPT_TOKENS, 30), cost, cost)
        assert host.paid == cost
        assert host.peer == stranger.peer_id
