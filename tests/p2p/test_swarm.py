"""Whole swarms in one process over loopback: strangers meet through a bootstrap peer, and jobs are sold."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from core.job import JobState, PeerId, Usage, charge
from p2p.identity import Identity
from p2p.job_request import JobOver, JobText, JobUpdate, request_job
from p2p.messages import JOB_PROTOCOL
from p2p.swarm_errors import PeerUnreachable, PortInUse
from tests.p2p.fakes import PRICE, PROMPT_TOKENS, FakeHost, FakePayer, a_request
from tests.p2p.swarms import (
    NETWORK,
    a_member,
    abort_connections,
    market,
    offers_found,
    running,
    until,
)


async def test_a_stranger_finds_an_offer_through_the_bootstrap_peer_and_buys() -> None:
    host = FakeHost([f"w{i} " for i in range(30)])
    async with market(host) as (_, provider, stranger):
        offers = await offers_found(stranger)
        assert [signed.offer.peer_id for signed in offers] == [provider.peer_id]
        stream = await stranger.swarm.open(provider.peer_id, JOB_PROTOCOL, addresses=offers[0].addresses)
        async with request_job(stream, a_request(), payer=FakePayer(), peer=provider.peer_id) as channel:
            updates = [update async for update in channel]
        cost = charge(PRICE, Usage(PROMPT_TOKENS, 30))
        assert updates[-1] == JobOver(JobState.FINISHED, "stop", Usage(PROMPT_TOKENS, 30), cost, cost)
        assert host.paid == cost
        assert host.peer == stranger.peer_id


async def test_a_peer_joins_within_two_seconds() -> None:
    meeting = a_member(1)
    async with running(meeting) as nursery:
        began = time.monotonic()
        joiner = a_member(2, meeting.swarm.addresses())
        await nursery.start(joiner.run)
        await until(lambda: joiner.swarm.peer_count)
        assert time.monotonic() - began < 2


async def test_cancelling_mid_stream_bills_delivered_tokens_only() -> None:
    host, payer = FakeHost(["w"] * 5_000, pace_s=0.005), FakePayer()
    async with market(host) as (_, provider, stranger):
        (offer, *_) = await offers_found(stranger)
        stream = await stranger.swarm.open(provider.peer_id, JOB_PROTOCOL, addresses=offer.addresses)
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
        stream = await stranger.swarm.open(provider.peer_id, JOB_PROTOCOL, addresses=offer.addresses)
        seen: list[JobUpdate] = []
        began = time.monotonic()
        request = a_request(max_tokens=5_000)
        async with request_job(stream, request, payer=FakePayer(), peer=provider.peer_id) as updates:
            async for update in updates:
                seen.append(update)
                if isinstance(update, JobText) and update.completion_tokens > 10:
                    abort_connections(provider.swarm)
        assert isinstance(seen[-1], JobOver)
        assert seen[-1].state is JobState.FAILED
        assert seen[-1].usage.completion_tokens > 10
        assert seen[-1].paid <= seen[-1].amount
        assert time.monotonic() - began < 10


async def test_a_requester_that_is_killed_costs_at_most_a_window() -> None:
    host = FakeHost(["w"] * 5_000, pace_s=0.005)
    async with market(host) as (_, provider, stranger):
        (offer, *_) = await offers_found(stranger)
        stream = await stranger.swarm.open(provider.peer_id, JOB_PROTOCOL, addresses=offer.addresses)
        request = a_request(max_tokens=5_000)
        async with request_job(stream, request, payer=FakePayer(), peer=provider.peer_id) as updates:
            async for update in updates:
                if isinstance(update, JobText) and update.completion_tokens > 10:
                    abort_connections(stranger.swarm)
        assert provider.sales is not None
        await until(lambda: not provider.sales._jobs[request.terms.job_id].is_carried)
        assert not host.cancelled  # it may come back


async def test_a_job_goes_on_when_its_connection_is_cut_again_and_again() -> None:
    words = [f"w{i} " for i in range(250)]
    host, payer = FakeHost(words, pace_s=0.002), FakePayer()
    async with market(host) as (_, provider, stranger):
        (offer, *_) = await offers_found(stranger)
        peer = provider.peer_id
        reopen = partial(stranger.swarm.open, peer, JOB_PROTOCOL, addresses=offer.addresses)
        request, seen, cut_at = a_request(max_tokens=250), list[JobUpdate](), 50
        async with request_job(await reopen(), request, payer=payer, peer=peer, reopen=reopen) as updates:
            async for update in updates:
                seen.append(update)
                if isinstance(update, JobText) and update.completion_tokens > cut_at:
                    cut_at += 70
                    await stranger.swarm.let_go(peer)
        cost = charge(PRICE, Usage(PROMPT_TOKENS, 250))
        assert cut_at > 250
        assert "".join(update.text for update in seen if isinstance(update, JobText)) == "".join(words)
        assert seen[-1] == JobOver(JobState.FINISHED, "stop", Usage(PROMPT_TOKENS, 250), cost, cost)
        assert host.paid == cost


async def test_garbage_on_a_job_stream_harms_nobody() -> None:
    host = FakeHost(["fine"])
    async with market(host) as (_, provider, stranger):
        (offer, *_) = await offers_found(stranger)
        for garbage in (b"\xff" * 100, b"\x05hello", b"\x80\x80\x80\x80\x80"):
            bad = await stranger.swarm.open(provider.peer_id, JOB_PROTOCOL, addresses=offer.addresses)
            await bad.write(garbage)
            await bad.close()
            await bad.reset()
        stream = await stranger.swarm.open(provider.peer_id, JOB_PROTOCOL)
        async with request_job(stream, a_request(), payer=FakePayer(), peer=provider.peer_id) as channel:
            updates = [update async for update in channel]
        assert isinstance(updates[-1], JobOver)
        assert updates[-1].state is JobState.FINISHED


async def test_a_host_that_fails_is_restarted_on_its_port() -> None:
    meeting = a_member(1)
    async with running(meeting) as nursery:
        joiner = a_member(2, meeting.swarm.addresses())
        await nursery.start(joiner.run)
        await until(lambda: joiner.swarm.peer_count)
        before, broken = joiner.swarm.addresses(), joiner.swarm._host
        assert broken is not None
        assert broken._nursery is not None
        broken._nursery.start_soon(_fail)
        await until(lambda: joiner.swarm._host not in (None, broken))
        assert joiner.swarm.addresses() == before
        await until(lambda: joiner.swarm.peer_count)


async def _fail() -> None:
    raise ZeroDivisionError


async def test_a_port_in_use_is_named() -> None:
    first = a_member(1)
    async with running(first):
        port = int(first.swarm.addresses()[0].split("/")[4])
        with pytest.raises(PortInUse) as caught:
            await a_member(2, port=port).swarm.run()
        assert caught.value.port == port


async def test_an_unknown_peer_is_unreachable() -> None:
    async with running(only := a_member(1)):
        with pytest.raises(PeerUnreachable):
            await only.swarm.open(Identity(b"\x05" * 32).peer_id, JOB_PROTOCOL, addresses=("/ip4/127.0.0.1/tcp/1",))
        with pytest.raises(PeerUnreachable):
            await only.swarm.open(PeerId("nobody"), JOB_PROTOCOL)


async def test_a_peer_that_serves_no_jobs_turns_them_away() -> None:
    async with running(one := a_member(1), other := a_member(2)):
        with pytest.raises(PeerUnreachable):
            await one.swarm.open(other.peer_id, JOB_PROTOCOL, addresses=other.swarm.addresses())
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
