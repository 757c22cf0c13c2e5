"""A worker child never outlives its engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[3]
ENDS_WITHIN_S = 5.0
STARTS_WITHIN_S = 30.0

ENGINE = """
import sys, trio
from core.worker.messages import ListDevices
from core.worker.process import open_worker

async def main():
    async with open_worker() as worker:
        await worker.send(ListDevices())
        await worker.next_report()
        print(worker.pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform != "linux", reason="stopped children are ended on Linux only")
@pytest.mark.parametrize("state", ["idle", "stopped"])
def test_a_killed_engine_leaves_no_child_behind(state: str) -> None:
    with subprocess.Popen([sys.executable, "-c", ENGINE], cwd=ROOT, stdout=subprocess.PIPE) as engine:
        assert engine.stdout is not None
        child = psutil.Process(int(engine.stdout.readline()))
        if state == "stopped":
            os.kill(child.pid, signal.SIGSTOP)
        engine.kill()
        engine.wait(ENDS_WITHIN_S)
    deadline = time.monotonic() + ENDS_WITHIN_S
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform != "linux", reason="there is no such pipe elsewhere")
def test_a_child_outlives_the_thread_that_started_it() -> None:
    with subprocess.Popen([sys.executable, "-c", ENGINE], cwd=ROOT, stdout=subprocess.PIPE) as engine:
        assert engine.stdout is not None
        child = psutil.Process(int(engine.stdout.readline()))
        deadline = time.monotonic() + STARTS_WITHIN_S
        while psutil.Process(engine.pid).num_threads() > 1:  # trio lets go of a thread that has had nothing to do
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert child.is_running() and child.status() != psutil.STATUS_ZOMBIE
        engine.kill()
