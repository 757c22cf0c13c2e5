"""Malformed inputs of every kind against one real peer, while honest requesters run small jobs there.

The peer, the attackers and the honest are processes of their own; attackers take only the processor time that nobody
else wants, so that what is measured is what their inputs cost the peer.
"""

from __future__ import annotations

import gc
import json
import logging
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tests.bench.report import Report
from tests.bench.swarm_jobs import Requester, Timed, ask_for
from tests.bench.swarm_process import PeerProcess, a_peer_process, end, spawned

INPUTS, QUICK_INPUTS = 100_000, 3_000
BEFORE_S, QUICK_BEFORE_S = 90.0, 30.0
HONEST = 4
ATTACKERS = 2
PAUSE_S = 0.2
MOST_RATIO = 2.0
NICENESS = 19
MIB = 1 << 20


def run(*, is_quick: bool) -> Report:
    """Jobs before, jobs during, and what became of the peer."""
    logging.disable(logging.CRITICAL)
    with a_peer_process() as peer:
        return trio.run(_Bench(peer, is_quick).run)


class _Bench:
    def __init__(self, peer: PeerProcess, is_quick: bool) -> None:
        self._peer = peer
        self._inputs = QUICK_INPUTS if is_quick else INPUTS
        self._before_s = QUICK_BEFORE_S if is_quick else BEFORE_S
        self._honest = [Requester(number + 10, peer.addresses[0]) for number in range(HONEST)]
        self._thrown: Counter[str] = Counter()
        self._refused = 0

    async def run(self) -> Report:
        before, during, warm = Timed(), Timed(), Timed()
        async with trio.open_nursery() as nursery:
            for requester in self._honest:
                await nursery.start(requester.swarm.run)
            await self._while(lambda: trio.sleep(self._before_s / 5), warm)
            gc.freeze()  # whoever measures must not stop to tidy up
            await self._while(lambda: trio.sleep(self._before_s), before)
            start = self._peer.figures()
            took_s = await self._while(self._attack, during)
            figures = self._peer.figures()
            nursery.cancel_scope.cancel()
        return self._report(before, during, start=start, end=figures, took_s=took_s)

    async def _while(self, other: Callable[[], Awaitable[None]], timed: Timed) -> float:
        """Let the honest ask while the other goes on; how long that took."""
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for requester in self._honest:
                nursery.start_soon(_asked, requester, timed)
            await other()
            nursery.cancel_scope.cancel()
        return time.perf_counter() - began

    async def _attack(self) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(ATTACKERS):
                arguments = (str(number), str(self._inputs // ATTACKERS), self._peer.addresses[0])
                process = spawned("tests.bench.hostile_attacker", *arguments, niceness=NICENESS)
                nursery.start_soon(self._wait_for, process)

    async def _wait_for(self, process: subprocess.Popen[str]) -> None:
        try:
            said, _ = await trio.to_thread.run_sync(process.communicate, abandon_on_cancel=True)
            told = json.loads(said)
            self._thrown.update(told["thrown"])
            self._refused += told["refused"]
        finally:
            end(process)

    def _report(
        self, before: Timed, during: Timed, *, start: dict[str, Any], end: dict[str, Any], took_s: float
    ) -> Report:
        figures = {
            "inputs": float(self._thrown.total()),
            "rtt_p99_ratio": during.quantile(0.99) / before.quantile(0.99),
            "rtt_p50_ratio": during.quantile(0.5) / before.quantile(0.5),
            "failed_jobs": float(before.failed + during.failed),
            "crashes": float(not end),
            "rss_growth_mib": (end.get("rss", 0) - start.get("rss", 0)) / MIB,
            "inputs_per_s": self._thrown.total() / took_s,
            "jobs_before": float(len(before.took_s)),
            "jobs_during": float(len(during.took_s)),
            "rtt_p99_before_ms": 1_000 * before.quantile(0.99),
            "rtt_p99_during_ms": 1_000 * during.quantile(0.99),
            "rtt_p50_before_ms": 1_000 * before.quantile(0.5),
            "rtt_p50_during_ms": 1_000 * during.quantile(0.5),
        }
        metrics = end.get("metrics", {})
        metrics["service_restarts"] = metrics.get("service_restarts", 0)
        seen = {"thrown": dict(self._thrown), "not let in": self._refused, "peer": metrics}
        seen |= {"failures": dict(Counter(during.reasons).most_common(3))} if during.reasons else {}
        return Report(figures, seen, _failure(figures, self._inputs))


async def _asked(requester: Requester, timed: Timed) -> None:
    await ask_for(requester, timed, pause_s=PAUSE_S)


def _failure(figures: dict[str, float], inputs: int) -> str:
    if figures["crashes"]:
        return "The peer crashed."
    if figures["failed_jobs"]:
        return "An honest job failed."
    if figures["inputs"] < inputs:
        return "Not all inputs were thrown."
    if figures["rtt_p99_ratio"] > MOST_RATIO:
        return f"The slowest honest jobs took more than {MOST_RATIO:g} times as long."
    return ""
