"""One peer of the NAT lab: a real swarm with offers, jobs and reachability, and one line of JSON for what happens.

Runs in a forked child, in its home's network namespace. Its jobs are made of words: what is tried is the way to them.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from core.job import JobId, JobRequest, JobState, PeerId
from core.job_output import JobOutput
from core.offer import Quote, Reject
from core.payments.voucher import Party, Voucher
from p2p.identity import Identity
from p2p.job_request import JobOver, request_job
from p2p.messages import JOB_PROTOCOL, SignedOffer
from p2p.offer_exchange import OfferExchange
from p2p.relay_book import RelayBook, RelayLimits
from p2p.relay_seats import keep_reachable
from p2p.swarm import Swarm
from p2p.swarm_errors import PeerUnreachable
from tests.netlab.homes import Place
from tests.netlab.internet import enter
from tests.p2p.fakes import FakeHost, FakePayer, a_request, an_offer, sales_of

MODEL = "tiny"
WORDS = 12
JOB_S = 20.0
ATTEMPTS, AVOID_S = 3, 60.0
FIND_S = 5.0
PAUSE_S, RETRY_S = 5.0, 1.0
OFFER_EVERY_S = 30.0
OFFER_LIFE_S = 90.0
STATUS_EVERY_S = 0.5


@dataclass(frozen=True)
class Role:
    """What one peer of the lab does. seed: of its identity, 1 to 255."""

    place: Place
    seed: int
    port: int
    bootstrap: tuple[str, ...] = ()
    is_provider: bool = False
    is_requester: bool = False
    is_relay: bool = False

    @property
    def identity(self) -> Identity:
        return Identity(bytes([self.seed]) * 32)


def start(role: Role) -> tuple[int, int]:
    """Fork the peer: its process id, and the pipe of its lines."""
    lines, out = os.pipe()
    child = os.fork()
    if child:
        os.close(out)
        return child, lines
    try:
        enter(role.place.namespace)
        os.dup2(out, 1)
        trio.run(_live, role, time.monotonic())
    except BaseException:  # noqa: BLE001  a child must not go on as the harness
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(0)


async def _live(role: Role, born: float) -> None:
    identity = role.identity
    swarm = Swarm(identity, port=role.port, bootstrap=role.bootstrap, network="lab", listen_ip="0.0.0.0")
    offers = OfferExchange(identity, swarm, network="lab")
    reach = keep_reachable(swarm)
    if role.is_relay:
        swarm.serve_relay(RelayBook(RelayLimits()))
    sales = sales_of(Words(), identity)
    swarm.serve(JOB_PROTOCOL, sales.serve)
    async with trio.open_nursery() as nursery:
        await nursery.start(sales.run)
        await nursery.start(swarm.run)
        nursery.start_soon(offers.run)
        nursery.start_soon(_tell_status, swarm, lambda: reach.standing.reachability.value)
        if role.is_provider:
            nursery.start_soon(_offer, swarm, offers)
        if role.is_requester:
            nursery.start_soon(_request, swarm, offers, born)


async def _offer(swarm: Swarm, offers: OfferExchange) -> None:
    sequence = 0
    while True:
        now = time.time()
        sequence += 1
        offer = an_offer(swarm.peer_id, model=MODEL, expires_at=now + OFFER_LIFE_S, sequence=sequence)
        await offers.announce(offer)
        await trio.sleep(OFFER_EVERY_S)


async def _request(swarm: Swarm, offers: OfferExchange, born: float) -> None:
    """Job after job, each at up to three peers, as the app does it; who failed is left alone for a minute."""
    failed: dict[str, float] = {}
    while True:
        began = time.monotonic()
        said: dict[str, Any] = {"job": False, "from": began, "born": born, "why": "found nobody", "peer": ""}
        with trio.move_on_after(JOB_S) as life:
            for _ in range(ATTEMPTS):
                found = await offers.find(MODEL, deadline_s=FIND_S)
                fresh = [signed for signed in found if failed.get(signed.offer.peer_id, 0.0) < began - AVOID_S]
                if not fresh:
                    break
                chosen = random.choice(fresh)
                failed[chosen.offer.peer_id] = time.monotonic()
                said |= await _job(swarm, chosen)
                if said["job"]:
                    del failed[chosen.offer.peer_id]
                    break
        if life.cancelled_caught:
            said |= {"why": "too slow"}
        _tell(said | {"to": time.monotonic()})
        await trio.sleep(PAUSE_S if said["job"] else RETRY_S)


async def _job(swarm: Swarm, signed: SignedOffer) -> dict[str, Any]:
    peer = PeerId(signed.offer.peer_id)
    request = a_request(f"job-{secrets.token_hex(8)}", model=MODEL, max_tokens=WORDS)
    dialled = time.monotonic()
    try:
        stream = await swarm.open(peer, JOB_PROTOCOL, addresses=signed.addresses)
    except PeerUnreachable as error:
        return {"why": f"unreachable: {error}", "peer": peer, "addresses": signed.addresses}
    opened, over = time.monotonic(), None
    async with request_job(stream, request, payer=FakePayer(), peer=peer) as updates:
        async for update in updates:
            over = update if isinstance(update, JobOver) else over
    path = swarm.path_of(peer)
    is_good = over is not None and over.state is JobState.FINISHED
    why = "" if is_good else f"job: {over.reason if over else 'no end'}"
    found = {"job": is_good, "why": why, "peer": peer, "path": path.value if path else ""}
    return found | {"dial_s": opened - dialled, "job_s": time.monotonic() - opened}


async def _tell_status(swarm: Swarm, standing: Callable[[], str]) -> None:
    while True:
        relayed = sum("/p2p-circuit" in address for address in swarm.addresses())
        paths = {peer: path.value for peer in swarm.peers() if (path := swarm.path_of(peer)) is not None}
        _tell({"at": time.monotonic(), "paths": paths, "seats": relayed, "reach": standing()})
        await trio.sleep(STATUS_EVERY_S)


def _tell(line: dict[str, Any]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


class Words:
    """A host with any number of jobs, each a few words."""

    def __init__(self) -> None:
        self._jobs: dict[JobId, FakeHost] = {}

    async def quote(self, request: JobRequest, payer: Party, *, peer: PeerId) -> Quote | Reject:
        host = self._jobs[request.terms.job_id] = FakeHost(f"w{i} " for i in range(WORDS))
        return await host.quote(request, payer, peer=peer)

    async def accept_payment(self, job_id: JobId, voucher: Voucher) -> int | str:
        return await self._jobs[job_id].accept_payment(job_id, voucher)

    async def start(self, job_id: JobId) -> trio.MemoryReceiveChannel[JobOutput] | str:
        return await self._jobs[job_id].start(job_id)

    async def cancel(self, job_id: JobId, reason: str) -> None:
        await self._jobs[job_id].cancel(job_id, reason)
