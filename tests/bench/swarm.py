"""Two hundred peers connected to one: what each costs it in memory, what all of them cost while nobody says anything,
and how long a job and a small message take there. A message is compared with the same bytes over plain TCP, and with
js-libp2p between two of its own where there is a Node for it.
"""

from __future__ import annotations

import json
import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import trio

from core.job import PeerId
from tests.bench.report import Report
from tests.bench.swarm_jobs import Requester, Timed
from tests.bench.swarm_process import PeerProcess, a_peer_process, end, spawned
from tests.js_peer import ECHO_PROTOCOL, JsMissing, find_or_install

PEERS, QUICK_PEERS = 200, 40
PROCESSES = 4
SETTLE_S, QUICK_SETTLE_S = 30.0, 5.0
IDLE_S, QUICK_IDLE_S = 60.0, 10.0
JOBS, QUICK_JOBS = 200, 40
MESSAGES, QUICK_MESSAGES = 2_000, 300
MESSAGE = b"x" * 64
PAUSE_S = 0.05  # a peer is asked 20 times a second at most
MOST_KB_PER_PEER = 100.0
MOST_IDLE_PERCENT = 2.0
NICENESS = 5


def run(*, is_quick: bool) -> Report:
    """A crowd, silence, jobs, messages."""
    logging.disable(logging.CRITICAL)
    with a_peer_process() as peer, ExitStack() as crowd:
        bench = _Bench(peer, crowd, is_quick)
        figures = trio.run(bench.run)
    figures |= _compared(figures["message_rtt_p50_ms"], is_quick)
    return Report(figures, {"peer": bench.metrics, **bench.troubles}, _failure(figures, bench.peers))


class _Bench:
    def __init__(self, peer: PeerProcess, crowd: ExitStack, is_quick: bool) -> None:
        self._peer = peer
        self._crowd = crowd
        self._address = peer.addresses[0]
        self.peers = QUICK_PEERS if is_quick else PEERS
        self._settle_s, self._idle_s = (QUICK_SETTLE_S, QUICK_IDLE_S) if is_quick else (SETTLE_S, IDLE_S)
        self._jobs, self._messages = (QUICK_JOBS, QUICK_MESSAGES) if is_quick else (JOBS, MESSAGES)
        self.metrics: dict[str, Any] = {}
        self.troubles: dict[str, Any] = {}

    async def run(self) -> dict[str, float]:
        requester = Requester(1_000_000, self._address)
        async with trio.open_nursery() as nursery:
            await nursery.start(requester.swarm.run)
            await self._ask(requester, self._jobs // 4)
            await trio.sleep(self._settle_s / 3)
            alone = self._peer.figures()
            crowd = await self._gather()
            await trio.sleep(self._settle_s)
            full = self._peer.figures()
            await trio.sleep(self._idle_s)
            idle = self._peer.figures()
            jobs = await self._ask(requester, self._jobs)
            rtt_s = await self._over_stream(requester)
            raw_s = await self._over_tcp()
            connected = sum(_count(process) for process in crowd)
            nursery.cancel_scope.cancel()
        self.metrics = self._peer.figures().get("metrics", {})
        return {
            "peers": float(min(connected, idle.get("peers", 0) - 1)),
            "kb_per_peer": (full["rss"] - alone["rss"]) / 1_000 / max(connected, 1),
            "idle_cpu_percent": 100 * (idle["cpu_s"] - full["cpu_s"]) / (idle["at"] - full["at"]),
            "job_rtt_p50_ms": 1_000 * jobs.quantile(0.5),
            "job_rtt_p99_ms": 1_000 * jobs.quantile(0.99),
            "failed_jobs": float(jobs.failed),
            "stream_overhead_ms_per_message": 1_000 * (rtt_s - raw_s) / 2,
            "message_rtt_p50_ms": 1_000 * rtt_s,
            "tcp_rtt_p50_ms": 1_000 * raw_s,
            "rss_mib": full["rss"] / (1 << 20),
        }

    async def _gather(self) -> list[subprocess.Popen[str]]:
        """Start the crowd, and wait until every process says that its peers are connected."""
        share = self.peers // PROCESSES
        crowd = []
        for number in range(PROCESSES):
            first = 2 + number * share
            arguments = (str(first), str(share), self._address)
            process = spawned("tests.bench.swarm_crowd", *arguments, niceness=NICENESS)
            self._crowd.callback(end, process)
            crowd.append(process)
        for process in crowd:
            await trio.to_thread.run_sync(_line, process, abandon_on_cancel=True)
        return crowd

    async def _ask(self, requester: Requester, count: int) -> Timed:
        timed = Timed()
        for _ in range(count):
            await requester.ask(timed)
            await trio.sleep(PAUSE_S)
        if timed.reasons:
            self.troubles["failures"] = timed.reasons[:3]
        return timed

    async def _over_stream(self, requester: Requester) -> float:
        peer = PeerId(self._address.rpartition("/p2p/")[2])
        stream = await requester.swarm.open(peer, ECHO_PROTOCOL)
        try:
            return await _median_rtt(stream.write, stream.read, self._messages)
        finally:
            await stream.reset()

    async def _over_tcp(self) -> float:
        async with await trio.open_tcp_stream("127.0.0.1", self._peer.raw_port) as stream:
            return await _median_rtt(stream.send_all, stream.receive_some, self._messages)


async def _median_rtt(
    write: Callable[[bytes], Awaitable[Any]], read: Callable[[], Awaitable[bytes | bytearray]], count: int
) -> float:
    """Seconds from a small message to its echo; the first tenth warms up."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        await write(MESSAGE)
        heard = 0
        while heard < len(MESSAGE):
            heard += len(await read())
        took.append(time.perf_counter() - began)
    return statistics.median(took[count // 10 :])


def _line(process: subprocess.Popen[str]) -> dict[str, int]:
    line = process.stdout.readline() if process.stdout is not None else ""
    said: dict[str, int] = json.loads(line) if line else {"connected": 0}
    return said


def _count(process: subprocess.Popen[str]) -> int:
    if process.poll() is not None or process.stdin is None:
        return 0
    process.stdin.write("count\n")
    process.stdin.flush()
    return _line(process)["connected"]


def _compared(rtt_ms: float, is_quick: bool) -> dict[str, float]:
    """Our round trip over that of js-libp2p with itself; nothing, and one line, where there is none."""
    try:
        js = find_or_install()
        count = QUICK_MESSAGES if is_quick else MESSAGES
        theirs = js.js_to_js_rtt(count=count, size=len(MESSAGE))["p50_ms"]
    except (JsMissing, RuntimeError) as error:
        print(f"vs_js_rtt is left out: {error}", file=sys.stderr)
        return {}
    return {"vs_js_rtt": rtt_ms / theirs, "js_rtt_p50_ms": theirs}


def _failure(figures: dict[str, float], peers: int) -> str:
    if figures["peers"] < peers:
        return f"Only {figures['peers']:.0f} of {peers} peers stayed connected."
    if figures["failed_jobs"]:
        return "A job failed."
    if figures["kb_per_peer"] > MOST_KB_PER_PEER:
        return f"A peer costs more than {MOST_KB_PER_PEER:g} KB."
    if figures["idle_cpu_percent"] > MOST_IDLE_PERCENT:
        return f"Silent peers cost more than {MOST_IDLE_PERCENT:g} % of a core."
    return ""
