"""Whole swarms in one process over loopback: strangers meet through a bootstrap peer, and jobs are sold."""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from core.job import JobState, PeerId, Usage, charge
from p2p.identity import Identity
from p2p.job_request import JobOver, JobText, JobUpdate, request_job
from p2p.job_stream import serve_job
from p2p.messages import JOB_PROTOCOL, SignedOffer
from p2p.swarm import Swarm
from p2p.swarm_errors import PeerUnreachable, PortInUse
from tests.p2p.fakes import PRICE, PROMPT_TOKENS, FakeHost, FakePayer, a_request, an_offer

NETWORK = "testnet"


@asynccontextmanager
async def running(*swarms: Swarm) -> AsyncIterator[trio.Nursery]:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for swarm in swarms:
                await nursery.start(swarm.run)
            yield nursery
            nursery.cancel_scope.cancel()


def a_swarm(seed: int, bootstrap: tuple[str, ...] = (), *, port: int = 0, network: str = NETWORK) -> Swarm:
    return Swarm(Identity(bytes([seed]) * 32), port=port, bootstrap=bootstrap, network=network)


def a_provider(seed: int, bootstrap: tuple[str, ...], host: FakeHost) -> Swarm:
    swarm = a_swarm(seed, bootstrap)
    sign = Identity(bytes([seed]) * 32).sign
    swarm.serve(lambda stream, peer: serve_job(stream, host, peer=peer, sign=sign))
    return swarm


async def until(is_true: Callable[[], object]) -> None:
    with trio.fail_after(5):
        while not is_true():
            await trio.sleep(0.01)


async def offers_found(swarm: Swarm, model: str = "tiny") -> list[SignedOffer]:
    offers: list[SignedOffer] = []
    with trio.fail_after(5):
        while not offers:
            offers = await swarm.find_offers(model, deadline_s=2)
    return offers


def abort_connections(swarm: Swarm) -> None:
    """What the kernel does to the sockets of a killed process, but with a reset."""
    assert swarm._host is not None
    for opened in tuple(swarm._host._host.get_network()._tcp._open):
        opened.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        opened.socket.close()


@asynccontextmanager
async def market(host: FakeHost) -> AsyncIterator[tuple[Swarm, Swarm, Swarm]]:
    """A bootstrap peer, a provider with an offer, and a stranger who knows the bootstrap peer alone."""
    meeting = a_swarm(1)
    async with running(meeting) as nursery:
        provider = a_provider(2, meeting.addresses(), host)
        stranger = a_swarm(3, meeting.addresses())
        await nursery.start(provider.run)
        await provider.announce(an_offer(provider.peer_id, expires_at=time.time() + 100))
        await nursery.start(stranger.run)
        await until(lambda: stranger.peer_count and provider.peer_count)
        yield meeting, provider, stranger


async def test_a_stranger_finds_an_offer_through_the_bootstrap_peer_and_buys() -> None:
    host = FakeHost([f"w{i} " for i in range(30)])
    async with market(host) as (_, provider, stranger):
        offers = await offers_found(stranger)
        assert [signed.offer.peer_id for signed in offers] == [provider.peer_id]
        stream = await stranger.open_job(provider.peer_id, offers[0].addresses)
        async with request_job(stream, a_request(), payer=FakePayer(), peer=provider.peer_id) as channel:
            updates = [update async for update in channel]
        cost = charge(PRICE, Usage(PROMPT_TOKENS, 30))
        assert updates[-1] == JobOver(JobState.FINISHED, "stop", Usage(PROMPT_TOKENS, 30), cost, cost)
        assert host.paid == cost
        assert host.peer == stranger.peer_id


async def test_a_peer_joins_within_two_seconds() -> None:
    meeting = a_swarm(1)
    async with running(meeting) as nursery:
        began = time.monotonic()
        joiner = a_swarm(2, meeting.addresses())
        await nursery.start(joiner.run)
        await until(lambda: joiner.peer_count)
        assert time.monotonic() - began < 2


async def test_cancelling_mid_stream_bills_delivered_tokens_only() -> None:
    host, payer = FakeHost(["w"] * 5_000, pace_s=0.005), FakePayer()
    async with market(host) as (_, provider, stranger):
        (offer, *_) = await offers_found(stranger)
        stream = await stranger.open_job(provider.peer_id, offer.addresses)
        async with request_job(stream, a_request(max_tokens=5_000), payer=payer, peer=provider.peer_id) as updates:
            async for update in updates:
                if isinstance(update, JobText) and update.completion_tokens > 20:
                    break
        await until(lambda: host.ended and host.paid == host.ended.amount)
        assert host.cancelled == "The requester cancelled."
        assert payer.signed[-1] == host.paid
        assert host.ended is not None
        assert 20 < host.ended.usage.completion_tokens < 1_000


async def test_a_killed_provider_is_a_clear_failure_at_once() -> None:
    async with market(FakeHost(["w"] * 5_000, pace_s=0.005)) as (_, provider, stranger):
        (offer, *_) = await offers_found(stranger)
        stream = await stranger.open_job(provider.peer_id, offer.addresses)
        seen: list[JobUpdate] = []
        began = time.monotonic()
        request = a_request(max_tokens=5_000)
        async with request_job(stream, request, payer=FakePayer(), peer=provider.peer_id) as updates:
            async for update in updates:
                seen.append(update)
                if isinstance(update, JobText) and update.completion_tokens > 10:
                    abort_connections(provider)
        assert isinstance(seen[-1], JobOver)
        assert seen[-1].state is JobState.FAILED
        assert seen[-1].usage.completion_tokens > 10
        assert seen[-1].paid <= seen[-1].amount
        assert time.monotonic() - began < 10


async def test_a_requester_that_is_killed_stops_its_job() -> None:
    host = FakeHost(["w"] * 5_000, pace_s=0.005)
    async with market(host) as (_, provider, stranger):
        (offer, *_) = await offers_found(stranger)
        stream = await stranger.open_job(provider.peer_id, offer.addresses)
        request = a_request(max_tokens=5_000)
        async with request_job(stream, request, payer=FakePayer(), peer=provider.peer_id) as updates:
            async for update in updates:
                if isinstance(update, JobText) and update.completion_tokens > 10:
                    abort_connections(stranger)
        await until(lambda: host.cancelled)
        assert host.cancelled == "The requester left."


async def test_garbage_on_a_job_stream_harms_nobody() -> None:
    host = FakeHost(["fine"])
    async with market(host) as (_, provider, stranger):
        (offer, *_) = await offers_found(stranger)
        for garbage in (b"\xff" * 100, b"\x05hello", b"\x80\x80\x80\x80\x80"):
            bad = await stranger.open_job(provider.peer_id, offer.addresses)
            await bad.write(garbage)
            await bad.close()
            await bad.reset()
        stream = await stranger.open_job(provider.peer_id)
        async with request_job(stream, a_request(), payer=FakePayer(), peer=provider.peer_id) as channel:
            updates = [update async for update in channel]
        assert isinstance(updates[-1], JobOver)
        assert updates[-1].state is JobState.FINISHED


async def test_an_offer_is_found_in_the_dht_when_the_bootstrap_peer_forgot_it() -> None:
    async with market(FakeHost([])) as (meeting, provider, stranger):
        await until(lambda: len(meeting._known) and provider._provided_at)
        for swarm in (meeting, stranger):
            swarm._known.remove(provider.peer_id)
        offers = await offers_found(stranger)
        assert [signed.offer.peer_id for signed in offers] == [provider.peer_id]


async def test_a_withdrawn_offer_is_offered_no_more() -> None:
    async with market(FakeHost([])) as (meeting, provider, stranger):
        await offers_found(stranger)
        await provider.withdraw("tiny")
        for swarm in (meeting, stranger):
            swarm._known.remove(provider.peer_id)
        assert await stranger.find_offers("tiny", deadline_s=1) == []


async def test_nothing_is_found_for_a_model_nobody_serves() -> None:
    async with market(FakeHost([])) as (_, _, stranger):
        assert await stranger.find_offers("other", deadline_s=2) == []


async def test_a_bootstrap_peer_that_comes_back_is_joined_again_and_told() -> None:
    first = a_swarm(1)
    async with running(first):
        addresses = first.addresses()
    joiner = a_swarm(2, addresses)
    async with running(joiner) as nursery:
        await joiner.announce(an_offer(joiner.peer_id, expires_at=time.time() + 100))
        await trio.sleep(0.3)
        assert joiner.peers() == ()
        again = a_swarm(1, port=int(addresses[0].split("/")[4]))
        await nursery.start(again.run)
        await until(lambda: joiner.peers() == (again.peer_id,))
        await until(lambda: len(again._known))


async def test_a_host_that_fails_is_restarted_on_its_port() -> None:
    meeting = a_swarm(1)
    async with running(meeting) as nursery:
        joiner = a_swarm(2, meeting.addresses())
        await nursery.start(joiner.run)
        await until(lambda: joiner.peer_count)
        before, broken = joiner.addresses(), joiner._host
        assert broken is not None
        assert broken._nursery is not None
        broken._nursery.start_soon(_fail)
        await until(lambda: joiner._host not in (None, broken))
        assert joiner.addresses() == before
        await until(lambda: joiner.peer_count)


async def _fail() -> None:
    raise ZeroDivisionError


async def test_a_port_in_use_is_named() -> None:
    first = a_swarm(1)
    async with running(first):
        port = int(first.addresses()[0].split("/")[4])
        with pytest.raises(PortInUse) as caught:
            await a_swarm(2, port=port).run()
        assert caught.value.port == port


async def test_an_unknown_peer_is_unreachable() -> None:
    async with running(only := a_swarm(1)):
        with pytest.raises(PeerUnreachable):
            await only.open_job(Identity(b"\x05" * 32).peer_id, ("/ip4/127.0.0.1/tcp/1",))
        with pytest.raises(PeerUnreachable):
            await only.open_job(PeerId("nobody"))


async def test_a_peer_that_serves_no_jobs_turns_them_away() -> None:
    async with running(one := a_swarm(1), other := a_swarm(2)):
        stream = await one.open_job(other.peer_id, other.addresses())
        async with request_job(stream, a_request(), payer=FakePayer(), peer=other.peer_id) as channel:
            updates = [update async for update in channel]
        assert isinstance(updates[-1], JobOver)
        assert updates[-1].state is JobState.FAILED
        assert JOB_PROTOCOL == "/starling/job/1.0.0"


@pytest.mark.e2e
def test_a_bootstrap_node_says_where_it_is_and_stops_on_a_signal(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "p2p.bootstrap_node", "--home", str(tmp_path), "--network", NETWORK]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        ready = json.loads(node.stdout.readline())
        assert ready["addresses"][0].endswith(ready["peer_id"])
        assert Identity.open(tmp_path / "keys" / "peer.key").peer_id == ready["peer_id"]
        node.send_signal(signal.SIGTERM)
        assert node.wait(timeout=10) == 0


@pytest.mark.e2e
def test_a_bootstrap_node_stops_with_its_standard_input(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "p2p.bootstrap_node", "--home", str(tmp_path), "--stdin-eof"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdin is not None
        assert node.stdout is not None
        assert json.loads(node.stdout.readline())["addresses"]
        node.stdin.close()
        assert node.wait(timeout=10) == 0
