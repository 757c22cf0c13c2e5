"""Offers find whoever looks for them: told, asked for, or found in the DHT."""

from __future__ import annotations

import time

import trio

from tests.p2p.fakes import FakeHost, an_offer
from tests.p2p.swarms import a_member, market, offers_found, running, until


async def test_an_offer_is_found_in_the_dht_when_the_bootstrap_peer_forgot_it() -> None:
    async with market(FakeHost([])) as (meeting, provider, stranger):
        await until(lambda: len(meeting.offers) and provider.offers._provided_at)
        for member in (meeting, stranger):
            member.offers._known.remove(provider.peer_id)
        offers = await offers_found(stranger)
        assert [signed.offer.peer_id for signed in offers] == [provider.peer_id]


async def test_a_withdrawn_offer_is_offered_no_more() -> None:
    async with market(FakeHost([])) as (meeting, provider, stranger):
        await offers_found(stranger)
        await provider.offers.withdraw("tiny")
        for member in (meeting, stranger):
            member.offers._known.remove(provider.peer_id)
        assert await stranger.offers.find("tiny", deadline_s=1) == []


async def test_nothing_is_found_for_a_model_nobody_serves() -> None:
    async with market(FakeHost([])) as (_, _, stranger):
        assert await stranger.offers.find("other", deadline_s=2) == []


async def test_a_bootstrap_peer_that_comes_back_is_joined_again_and_told() -> None:
    first = a_member(1)
    async with running(first):
        addresses = first.swarm.addresses()
    joiner = a_member(2, addresses)
    async with running(joiner) as nursery:
        await joiner.offers.announce(an_offer(joiner.peer_id, expires_at=time.time() + 100))
        await trio.sleep(0.3)
        assert joiner.swarm.peers() == ()
        again = a_member(1, port=int(addresses[0].split("/")[4]))
        await nursery.start(again.run)
        await until(lambda: joiner.swarm.peers() == (again.peer_id,))
        await until(lambda: len(again.offers))
