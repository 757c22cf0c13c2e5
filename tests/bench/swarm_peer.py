"""`python -m tests.bench.swarm_peer`: one real peer in a process of its own, for the benchmarks that lean on it.

Prints a line of JSON with its addresses, and one with its figures for each line it reads; ends with its input. Its jobs
are made of words, so that only the swarm is measured.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
from functools import partial
from typing import Any

import msgspec
import psutil
import trio

from core.job import JobId, JobRequest, PeerId
from core.job_output import JobOutput
from core.offer import Quote, Reject
from core.payments.voucher import Party, Voucher
from core.still_heap import keep_heap
from p2p.byte_stream import ByteStream
from p2p.identity import Identity
from p2p.job_sales import JobSales, SalesPorts
from p2p.messages import JOB_PROTOCOL
from p2p.offer_exchange import OfferExchange
from p2p.peer_exchange import PeerExchange
from p2p.peer_messages import PEERS_PROTOCOL
from p2p.row_book import RowBook
from p2p.row_exchange import RowExchange, RowPorts
from p2p.row_messages import ROWS_PROTOCOL, SignedRows
from p2p.swarm import Swarm
from tests.js_peer import ECHO_PROTOCOL
from tests.p2p.fakes import DOMAIN, NOW, FakeHost, an_offer

NETWORK = "bench"
WORDS = ("word ",) * 8
MAX_JOBS = 4_096
ECHO_BYTES = 65_536


class ManyJobs:
    """A host whose every job is the same few words."""

    def __init__(self) -> None:
        self._jobs: dict[JobId, FakeHost] = {}
        self.started = 0

    async def quote(self, request: JobRequest, payer: Party, *, peer: PeerId) -> Quote | Reject:
        host = FakeHost(WORDS, window_tokens=64)
        self._jobs[request.terms.job_id] = host
        while len(self._jobs) > MAX_JOBS:
            del self._jobs[next(iter(self._jobs))]
        return await host.quote(request, payer, peer=peer)

    async def accept_payment(self, job_id: JobId, voucher: Voucher) -> int | str:
        host = self._jobs.get(job_id)
        return await host.accept_payment(job_id, voucher) if host else "There is no such job."

    async def start(self, job_id: JobId) -> trio.MemoryReceiveChannel[JobOutput] | str:
        self.started += 1
        host = self._jobs.get(job_id)
        return await host.start(job_id) if host else "There is no such job."

    async def cancel(self, job_id: JobId, reason: str) -> None:
        host = self._jobs.pop(job_id, None)
        if host is not None:
            await host.cancel(job_id, reason)


class BenchPeer:
    """A provider with everything that a peer serves."""

    def __init__(self, seed: bytes = b"\x01" * 32) -> None:
        identity = Identity(seed)
        self.swarm = Swarm(identity, port=0, bootstrap=(), network=NETWORK)
        self.jobs = ManyJobs()
        self.offers = OfferExchange(identity, self.swarm, network=NETWORK)
        self._began = time.time()
        ports = SalesPorts(DOMAIN, self.swarm.report, lambda: NOW + time.time() - self._began)
        self.sales = JobSales(self.jobs, identity, ports=ports)
        self.swarm.serve(JOB_PROTOCOL, self.sales.serve)
        rows = RowPorts(own=lambda: (), kept=_forget, clock=time.time)
        self.swarm.serve(ROWS_PROTOCOL, RowExchange(identity, RowBook(), ports=rows, shares=True).serve)
        self.swarm.serve(PEERS_PROTOCOL, PeerExchange(self.swarm, swarm=NETWORK).serve)
        self.swarm.serve(ECHO_PROTOCOL, _echo)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.swarm.run)
            await nursery.start(self.sales.run)
            nursery.start_soon(self.offers.run)
            await self.offers.announce(an_offer(self.swarm.peer_id, expires_at=time.time() + 86_400))
            task_status.started()

    def figures(self) -> dict[str, Any]:
        process = psutil.Process()
        times = process.cpu_times()
        return {
            "rss": process.memory_info().rss,
            "cpu_s": times.user + times.system,
            "at": time.perf_counter(),
            "peers": self.swarm.peer_count,
            "jobs": self.jobs.started,
            "metrics": msgspec.to_builtins(self.swarm.metrics()),
        }


async def _echo(stream: ByteStream, peer: PeerId) -> None:
    while received := await stream.read():
        await stream.write(received)
    await stream.close()


async def _raw_echo(stream: trio.SocketStream) -> None:
    """What the same bytes take without a swarm."""
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while received := await stream.receive_some(ECHO_BYTES):
        await stream.send_all(received)


async def _forget(rows: SignedRows) -> None:
    return None


async def _main() -> None:
    peer = BenchPeer()
    async with trio.open_nursery() as nursery:
        await nursery.start(peer.run)
        (raw,) = await nursery.start(partial(trio.serve_tcp, _raw_echo, 0, host="127.0.0.1"))
        port = raw.socket.getsockname()[1]
        keep_heap()
        print(json.dumps({"addresses": peer.swarm.addresses(), "raw_port": port}), flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            print(json.dumps(peer.figures()), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    trio.run(_main)
