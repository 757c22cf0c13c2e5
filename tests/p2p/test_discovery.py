"""Laws of finding each other, with real swarms on loopback: books outlive bootstrap peers, networks never mix."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from p2p import greeting, peer_exchange
from p2p.address_book import Heard, KnownPeer, Source
from p2p.byte_stream import ByteStream, StreamBroken
from p2p.discovery import Discovery, DiscoveryPorts
from p2p.identity import Identity
from p2p.messages import JOB_PROTOCOL, QUERY_PROTOCOL
from p2p.peer_messages import HELLO_PROTOCOL, PEERS_PROTOCOL
from p2p.swarm_errors import OtherNetwork, PeerUnreachable
from tests.p2p.fakes import FakeHost, an_offer
from tests.p2p.hosts import a_host
from tests.p2p.hosts import running as up
from tests.p2p.swarms import NETWORK, Member, a_member, a_provider, offers_found, running, until

OTHER = "othernet"


class Finder:
    """A member that exchanges peers, and its book of last time."""

    def __init__(self, seed: int, bootstrap: tuple[str, ...] = (), *, book: tuple[KnownPeer, ...] = ()) -> None:
        self.member = a_member(seed, bootstrap)
        self.swarm = self.member.swarm
        self.book = book
        self.warnings: list[str] = []
        ports = DiscoveryPorts(load=self._load, save=self._save, warn=self.warnings.append)
        self.discovery = Discovery(self.swarm, network=NETWORK, ports=ports, finds_on_lan=False)

    async def _load(self) -> tuple[KnownPeer, ...]:
        return self.book

    async def _save(self, book: tuple[KnownPeer, ...]) -> None:
        self.book = book

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            await self.discovery.load()
            async with trio.open_nursery() as nursery:
                await nursery.start(self.member.run)
                nursery.start_soon(self.discovery.run)
                task_status.started(scope)


@asynccontextmanager
async def a_nursery() -> AsyncIterator[trio.Nursery]:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_exchange, "FIRST_PAUSE_S", 0.1)


async def test_peers_of_one_bootstrap_peer_come_to_know_each_other_and_stay_together_without_it() -> None:
    async with a_nursery() as nursery:
        meeting = Finder(1)
        end = await nursery.start(meeting.run)
        finders = [Finder(seed, meeting.swarm.addresses()) for seed in (2, 3, 4)]
        for finder in finders:
            await nursery.start(finder.run)
        await until(lambda: all(finder.swarm.peer_count == 3 for finder in finders))
        end.cancel()
        await until(lambda: all(finder.swarm.peer_count == 2 for finder in finders))
        exchanged = finders[0].swarm.book.get(finders[1].swarm.peer_id)
        assert exchanged is not None
        assert exchanged.record is not None


async def test_a_peer_whose_bootstrap_peers_are_all_dead_rejoins_out_of_its_own_book() -> None:
    async with a_nursery() as nursery:
        meeting = Finder(1)
        end = await nursery.start(meeting.run)
        friend, comer = Finder(2, meeting.swarm.addresses()), Finder(3, meeting.swarm.addresses())
        await nursery.start(friend.run)
        gone = await nursery.start(comer.run)
        await until(lambda: comer.swarm.peer_count == 2)
        end.cancel()
        gone.cancel()
        await until(lambda: comer.book)
        again = Finder(3, meeting.swarm.addresses(), book=comer.book)
        began = time.monotonic()
        await nursery.start(again.run)
        await until(lambda: friend.swarm.peer_id in again.swarm.peers())
        assert time.monotonic() - began < 3


@asynccontextmanager
async def two_networks() -> AsyncIterator[tuple[Member, Member, Member]]:
    """A provider of this network, a requester and a provider of another one with the same tastes, all running."""
    provider = a_provider(2, (), FakeHost(["x"]))
    async with running(provider) as nursery:
        stranger = a_member(3, provider.swarm.addresses(), network=OTHER)
        seller = a_member(4, provider.swarm.addresses(), network=OTHER)
        for member in (stranger, seller):
            await nursery.start(member.run)
        yield provider, stranger, seller


async def test_two_networks_on_one_machine_never_find_each_others_offers() -> None:
    async with two_networks() as (provider, stranger, seller):
        await provider.offers.announce(an_offer(provider.peer_id, expires_at=time.time() + 100))
        await seller.offers.announce(an_offer(seller.peer_id, expires_at=time.time() + 100))
        await until(lambda: stranger.swarm._greeter.is_foreign(provider.peer_id))
        stranger.swarm.book.hear(Heard(seller.peer_id, seller.swarm.addresses(), Source.LAN), now=time.time())
        stranger.swarm.look_again()
        found = await offers_found(stranger)
        assert [signed.offer.peer_id for signed in found] == [seller.peer_id]
        assert len(provider.offers) == 0
        assert await provider.offers.find("tiny", deadline_s=0.3) == []


async def test_a_peer_of_another_network_gets_no_job_and_no_other_stream() -> None:
    async with two_networks() as (provider, stranger, _):
        for protocol in (JOB_PROTOCOL, QUERY_PROTOCOL, PEERS_PROTOCOL):
            with pytest.raises(OtherNetwork):
                await stranger.swarm.open(provider.peer_id, protocol, addresses=provider.swarm.addresses())
        await until(lambda: not provider.swarm.peer_count)


async def test_a_stream_of_another_network_is_refused_even_on_a_connection_that_stays() -> None:
    provider, host = a_provider(2, (), FakeHost(["x"])), a_host(7, network=OTHER)
    async with running(provider), up(host):
        await host.connect(provider.peer_id, provider.swarm.addresses())
        foreign = Identity(b"\x07" * 32).peer_id
        provider.swarm._greeter._foreign[foreign] = trio.current_time() + 60
        with pytest.raises((PeerUnreachable, StreamBroken)):
            await answer_to(await host.open_stream(provider.peer_id, JOB_PROTOCOL))


async def answer_to(stream: ByteStream) -> bytes:
    await stream.write(b"\x00")
    return await stream.read()


async def test_a_peer_that_knows_no_hello_is_let_be() -> None:
    asker, host = a_member(2), a_host(7)
    async with running(asker), up(host):

        async def serve(stream: Any, peer: Any) -> None:
            await stream.read()

        host.accept(QUERY_PROTOCOL, serve)
        peer = Identity(b"\x07" * 32).peer_id
        stream = await asker.swarm.open(peer, QUERY_PROTOCOL, addresses=host.addresses())
        await stream.reset()
        with pytest.raises(PeerUnreachable):
            await asker.swarm.open(peer, HELLO_PROTOCOL)


async def test_a_clock_that_is_off_is_said_and_offers_are_timed_by_the_peers() -> None:
    async with a_nursery() as nursery:
        meeting = a_provider(1, (), FakeHost(["x"]))
        await nursery.start(meeting.run)
        await meeting.offers.announce(an_offer(meeting.peer_id, expires_at=time.time() + 100))
        late = Finder(2, meeting.swarm.addresses())
        late.swarm.clock = lambda: time.time() - 300
        await nursery.start(late.run)
        await until(lambda: late.warnings)
        assert "about 5 minutes behind" in late.warnings[0]
        assert late.swarm.now() == pytest.approx(time.time(), abs=5)
        assert [s.offer.peer_id for s in await offers_found(late.member)] == [meeting.peer_id]
        offer = an_offer(late.swarm.peer_id, model="other", expires_at=late.swarm.clock() + 100)
        await late.member.offers.announce(offer)
        assert [s.offer.peer_id for s in await offers_found(meeting, "other")] == [late.swarm.peer_id]


async def test_a_hello_out_of_the_blue_harms_nobody() -> None:
    provider, host = a_provider(2, (), FakeHost(["x"])), a_host(7)
    async with running(provider), up(host):
        await host.connect(provider.peer_id, provider.swarm.addresses())
        for garbage in (b"", b"\xff" * 60, b"\x02{}"):
            stream = await host.open_stream(provider.peer_id, HELLO_PROTOCOL)
            await stream.write(garbage)
            await stream.close()
            await stream.reset()
        assert greeting.HELLO_S > 0
        await until(lambda: provider.swarm.peer_count == 1)


async def test_an_offer_is_found_beyond_neighbours_who_know_of_none() -> None:
    provider, silent = a_provider(2, (), FakeHost(["x"])), a_member(1)
    async with running(provider, silent) as nursery:
        await provider.offers.announce(an_offer(provider.peer_id, expires_at=time.time() + 100))
        asker = a_member(3, silent.swarm.addresses())
        asker.swarm.target_outbound = 1
        await nursery.start(asker.run)
        await until(lambda: asker.swarm.peers() == (silent.peer_id,))
        assert await asker.offers.find("tiny", deadline_s=1) == []
        asker.swarm.book.hear(Heard(provider.peer_id, provider.swarm.addresses(), Source.LAN), now=time.time())
        found = await asker.offers.find("tiny", deadline_s=3)
        assert [signed.offer.peer_id for signed in found] == [provider.peer_id]
