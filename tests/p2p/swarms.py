"""Whole swarms in one process over loopback, for tests: each member with its offers."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import trio

from core.job import PeerId
from p2p.identity import Identity
from p2p.job_sales import JobSales
from p2p.messages import JOB_PROTOCOL, SignedOffer
from p2p.offer_exchange import OfferExchange
from p2p.swarm import Swarm
from tests.p2p.fakes import FakeHost, an_offer, sales_of

NETWORK = "testnet"


class Member(msgspec.Struct, frozen=True):
    """One peer of the swarm."""

    swarm: Swarm
    offers: OfferExchange
    sales: JobSales | None = None

    @property
    def peer_id(self) -> PeerId:
        return self.swarm.peer_id

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.swarm.run)
            nursery.start_soon(self.offers.run)
            if self.sales is not None:
                await nursery.start(self.sales.run)
            task_status.started()


def a_member(seed: int, bootstrap: tuple[str, ...] = (), *, port: int = 0, network: str = NETWORK) -> Member:
    identity = Identity(bytes([seed]) * 32)
    swarm = Swarm(identity, port=port, bootstrap=bootstrap, network=network)
    return Member(swarm, OfferExchange(identity, swarm, network=network))


def a_provider(seed: int, bootstrap: tuple[str, ...], host: FakeHost) -> Member:
    member = a_member(seed, bootstrap)
    sales = sales_of(host, Identity(bytes([seed]) * 32))
    member.swarm.serve(JOB_PROTOCOL, sales.serve)
    return msgspec.structs.replace(member, sales=sales)


@asynccontextmanager
async def running(*members: Member) -> AsyncIterator[trio.Nursery]:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for member in members:
                await nursery.start(member.run)
            yield nursery
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def market(host: FakeHost) -> AsyncIterator[tuple[Member, Member, Member]]:
    """A bootstrap peer, a provider with an offer, and a stranger who knows the bootstrap peer alone."""
    meeting = a_member(1)
    async with running(meeting) as nursery:
        provider = a_provider(2, meeting.swarm.addresses(), host)
        stranger = a_member(3, meeting.swarm.addresses())
        await nursery.start(provider.run)
        await provider.offers.announce(an_offer(provider.peer_id, expires_at=time.time() + 100))
        await nursery.start(stranger.run)
        await until(lambda: stranger.swarm.peer_count and provider.swarm.peer_count)
        yield meeting, provider, stranger


async def until(is_true: Callable[[], object]) -> None:
    with trio.fail_after(5):
        while not is_true():
            await trio.sleep(0.01)


async def offers_found(member: Member, model: str = "tiny") -> list[SignedOffer]:
    offers: list[SignedOffer] = []
    with trio.fail_after(5):
        while not offers:
            offers = await member.offers.find(model, deadline_s=2)
    return offers


def abort_connections(swarm: Swarm) -> None:
    """What the kernel does to the sockets of a killed process, but with a reset."""
    assert swarm._host is not None
    for opened in tuple(swarm._host._host.get_network()._tcp._open):
        opened.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        opened.socket.close()
