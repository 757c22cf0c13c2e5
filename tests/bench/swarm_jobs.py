"""Honest requesters of the swarm's benchmarks: small jobs, one after the other, each timed from asking to its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import trio

from core.job import JobState, PeerId
from p2p.byte_stream import StreamBroken
from p2p.identity import Identity
from p2p.job_request import JobOver, request_job
from p2p.messages import JOB_PROTOCOL
from p2p.swarm import Swarm
from p2p.swarm_errors import PeerUnreachable
from tests.bench.swarm_peer import NETWORK
from tests.p2p.fakes import FakePayer, a_request

JOB_S = 30.0


@dataclass
class Timed:
    """Round trips of whole jobs in seconds, and how many did not end well."""

    took_s: list[float] = field(default_factory=list)
    failed: int = 0
    reasons: list[str] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        ordered = sorted(self.took_s)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


class Requester:
    """One honest peer, connected to the one that is measured."""

    def __init__(self, number: int, address: str) -> None:
        self._number = number
        self._count = 0
        self._address = address
        self._peer = PeerId(address.rpartition("/p2p/")[2])
        self.swarm = Swarm(Identity(number.to_bytes(32)), port=0, bootstrap=(), network=NETWORK)

    async def ask(self, timed: Timed) -> None:
        """One job."""
        began = time.perf_counter()
        try:
            with trio.fail_after(JOB_S):
                over = await self._job()
        except (PeerUnreachable, StreamBroken, trio.TooSlowError) as error:
            timed.failed += 1
            timed.reasons.append(f"{type(error).__name__}: {error}")
            return
        if over is None or over.state is not JobState.FINISHED:
            timed.failed += 1
            timed.reasons.append(over.reason if over is not None else "no end")
            return
        timed.took_s.append(time.perf_counter() - began)

    async def _job(self) -> JobOver | None:
        self._count += 1
        stream = await self.swarm.open(self._peer, JOB_PROTOCOL, addresses=(self._address,))
        request = a_request(f"job-{self._number}-{self._count}")
        over = None
        async with request_job(stream, request, payer=FakePayer(), peer=self._peer) as updates:
            async for update in updates:
                over = update if isinstance(update, JobOver) else over
        return over


async def ask_for(requester: Requester, timed: Timed, *, pause_s: float) -> None:
    """Jobs until cancelled."""
    while True:
        await requester.ask(timed)
        await trio.sleep(pause_s)
