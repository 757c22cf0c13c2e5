"""Models on a running engine: the command line's Ctrl-C stops the engine's work, and the engine serves on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core import commands as c
from core.node_state import Presence
from tests.e2e.conftest import SLOW_MODEL, Peer

pytestmark = pytest.mark.e2e


def words(peer: Peer, *deed: str) -> list[str]:
    return [sys.executable, "-P", "-m", "app", "models", *deed, "--home", str(peer.home.folder)]


def test_ctrl_c_stops_what_the_engine_does_and_nothing_half_done_is_left(peer: Peer) -> None:
    process = subprocess.Popen(words(peer, "quantize", SLOW_MODEL, "IQ4_XS"), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(peer.home.models.rglob("*.part")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Nothing half done is left" in said and "Traceback" not in said
    peer.wait(lambda state: state.progress is None, timeout_s=30)
    assert not list(peer.home.models.rglob("*.part"))
    state = peer.state()
    assert state.presence is Presence.JOINED
    assert "IQ4_XS" not in {v.quantization for v in state.models[SLOW_MODEL].variants}


def test_the_engine_makes_checks_and_removes_a_variant_for_the_command_line(peer: Peer) -> None:
    made = subprocess.run(words(peer, "quantize", "starling-demo", "Q5_1", "--json"), capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["models"][0]["model"] == "starling-demo"
    assert peer.state().models["starling-demo"].variant("Q5_1") is not None
    checked = subprocess.run(words(peer, "verify", "starling-demo"), capture_output=True, text=True)
    assert checked.returncode == 0 and "what they were" in checked.stderr
    listed = json.loads(subprocess.run(words(peer, "list", "--json"), capture_output=True, text=True).stdout)
    assert ("starling-demo", "Q5_1") in [(drop["model"], drop["quantization"]) for drop in listed["drop_order"]]
    plan = peer.state().choice
    assert plan is not None
    assert isinstance(peer.execute(c.RemoveModel("starling-demo", plan.plan.quantization)), c.Refused)
    assert isinstance(peer.execute(c.RemoveModel("starling-demo", "Q5_1")), c.Done)
    assert not Path(peer.home.models / "starling-demo" / "Q5_1.gguf").exists()
