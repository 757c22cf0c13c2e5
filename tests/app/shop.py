"""Sellers without a network between, for tests of those who ask several of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio

from app.job_round import JobRound, RoundPorts
from core.job import JobRequest, PeerId
from core.offer import Quote, Reject
from core.payments.voucher import Party
from p2p.byte_stream import ByteStream
from p2p.candidates import Picked
from p2p.identity import Identity
from p2p.job_request import JobOver, JobUpdate
from p2p.messages import SignedOffer
from p2p.swarm_errors import PeerUnreachable
from p2p.trust import Fault, Trust
from tests.p2p.fakes import NOW, FakeHost, FakePayer, a_request, an_offer, sales_of, stream_pair

ASKER = Identity(b"\x08" * 32).peer_id


class Seller(FakeHost):
    """Quotes a time to the first token, after a while, and says one word again and again."""

    def __init__(self, ttft_s: float, *, thinks_s: float = 0.0, refusal: str = "", word: str = "") -> None:
        super().__init__([word or f"{ttft_s} "] * 10, refusal=refusal)
        self.ttft_s = ttft_s
        self.thinks_s = thinks_s

    async def quote(self, request: JobRequest, payer: Party, *, peer: PeerId) -> Quote | Reject:
        await trio.sleep(self.thinks_s)
        self.fan_out = request.terms.fan_out
        quote = await super().quote(request, payer, peer=peer)
        return quote if isinstance(quote, Reject) else msgspec.structs.replace(quote, ttft_p90_s=self.ttft_s)


class Shop:
    """Some sellers and one who asks; None is a seller that cannot be reached."""

    def __init__(self, *sellers: Seller | None) -> None:
        self.identities = [Identity(bytes([20 + number]) * 32) for number in range(len(sellers))]
        self.sellers = dict(zip((identity.peer_id for identity in self.identities), sellers, strict=True))
        self.payer, self.trust, self.heard = FakePayer(), Trust(), list[JobUpdate]()
        self.faults: list[tuple[PeerId, Fault]] = []
        self.settled = 0

    def renew(self) -> None:
        """Sellers that have sold nothing yet, and say what they said."""
        for seller in filter(None, self.sellers.values()):
            seller.paid, seller.cancelled, seller.ended = 0, "", None
        self.payer = FakePayer()

    def offers(self) -> tuple[SignedOffer, ...]:
        return tuple(SignedOffer(an_offer(identity.peer_id), "") for identity in self.identities)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[RoundPorts]:
        async with trio.open_nursery() as nursery:
            sales = {}
            for identity in self.identities:
                if (seller := self.sellers[identity.peer_id]) is not None:
                    sales[identity.peer_id] = sales_of(seller, identity)
                    await nursery.start(sales[identity.peer_id].run)

            async def reach(signed: SignedOffer) -> ByteStream:
                if (sale := sales.get(PeerId(signed.offer.peer_id))) is None:
                    raise PeerUnreachable("The peer does not answer.")
                ours, theirs = stream_pair()
                nursery.start_soon(sale.serve, theirs, ASKER)
                return ours

            yield RoundPorts(reach, self.payer, self.trust, lambda p, f: self.faults.append((p, f)), lambda: NOW)
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def round(self, on_trial: int | None = None) -> AsyncIterator[JobRound]:
        trial = self.identities[on_trial].peer_id if on_trial is not None else None
        async with self.open() as ports:
            yield JobRound(a_request(), Picked(self.offers(), trial), ports=ports)

    async def run(self, on_trial: int | None = None) -> tuple[JobOver, PeerId | None]:
        async with self.round(on_trial) as round_:
            over = await round_.run(self.hear)
            return over, round_.winner

    async def hear(self, update: JobUpdate) -> None:
        self.heard.append(update)

    def named(self, number: int) -> PeerId:
        return self.identities[number].peer_id
