"""How long a warm start takes until the peer is joined, and what an idle engine without a model weighs.

Real processes on a development network of its own: the benchmark is known, the model is quantized, as on any day
but the first.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import psutil

from app.child import Child
from app.control_client import ControlClient, EngineNotRunning
from app.devnet import Devnet
from core import commands as c
from core.home import Home
from core.node_state import Presence
from tests.bench.report import Report

JOIN_S = 300.0
SETTLE_S = 3.0


def run(*, is_quick: bool) -> Report:
    with tempfile.TemporaryDirectory() as folder, Devnet(Path(folder) / "net", tell=lambda text: None) as devnet:
        home = Home(Path(folder) / "peer")
        cold = joined_after(home, devnet, "--join")
        warm = [joined_after(home, devnet, "--join") for _ in range(1 if is_quick else 5)]
        idle = idle_bytes(Home(Path(folder) / "idle"), devnet)
    return Report(
        {
            "warm_join_s": statistics.median(warm),
            "warm_join_worst_s": max(warm),
            "first_join_s": cold,
            "idle_engine_mb": idle / 1e6,
        }
    )


def joined_after(home: Home, devnet: Devnet, *words: str) -> float:
    """Seconds from starting the process to joined; the engine is told to quit afterwards."""
    began = time.monotonic()
    with engine(home, devnet, *words):
        while time.monotonic() - began < JOIN_S:
            try:
                with ControlClient.connect(home, timeout_s=5.0) as client:
                    if any(state.presence is Presence.JOINED for state in client.watch()):
                        took = time.monotonic() - began
                        client.execute(c.QuitEngine(now=True), timeout_s=30)
                        return took
            except EngineNotRunning:
                time.sleep(0.01)
    raise RuntimeError("the peer did not join")


def idle_bytes(home: Home, devnet: Devnet) -> int:
    """Resident memory of an engine that has not joined and has no model loaded."""
    with engine(home, devnet) as child:
        while True:
            try:
                ControlClient.connect(home, timeout_s=5.0).close()
                break
            except EngineNotRunning:
                time.sleep(0.05)
        time.sleep(SETTLE_S)
        return int(psutil.Process(child.pid).memory_info().rss)


def engine(home: Home, devnet: Devnet, *words: str) -> Child:
    given = ["app", "--headless", "--home", str(home.folder), "--network", str(devnet.network_file), *words]
    return Child("engine", given, log=home.logs / "process.log")
