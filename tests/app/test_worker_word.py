"""The frozen app starts its worker children by a word of its own."""

from __future__ import annotations

import sys

import pytest
import trio

from core.worker import messages as w
from core.worker import process
from core.worker.process import run_once


@pytest.mark.e2e
async def test_the_app_can_be_its_own_worker_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "child_command", lambda: (sys.executable, "-m", "app", "worker"))
    with trio.fail_after(60):
        report = await run_once(w.ListDevices(), deadline_s=30)
    assert isinstance(report, w.Devices) and report.devices


def test_a_frozen_app_asks_for_that_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert process.child_command() == (sys.executable, "worker")
