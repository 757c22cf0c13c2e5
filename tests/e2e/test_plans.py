"""Plans on a running engine: the command line reads what it knows, and a kept plan is what it serves."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from core.node_state import NodeState, Presence
from core.plan import Choice, Plan
from tests.e2e.conftest import Peer

pytestmark = pytest.mark.e2e
MODEL = "starling-demo"


def plan(peer: Peer, *words: str) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, "-P", "-m", "app", "plan", MODEL, *words, "--home", str(peer.home.folder)]
    return subprocess.run(given, capture_output=True, text=True, timeout=240, check=False)


def serves(wanted: Plan, state: NodeState) -> bool:
    is_chosen = state.choice is not None and state.choice.plan == wanted
    is_loaded = state.worker is not None and state.worker.model == MODEL
    return is_chosen and is_loaded and state.presence is Presence.JOINED


def is_kept(choice: Choice) -> bool:
    return choice.reason.startswith("You keep ")


def test_a_plan_kept_by_its_number_is_served_until_it_is_let_go(peer: Peer) -> None:
    before = peer.wait_joined()
    assert before.choice is not None
    found: dict[str, Any] = json.loads(plan(peer, "--json", "--all").stdout)
    row = next(row for row in found["ranked"] if row["plan"]["slots"] == 2)
    wanted = msgspec.convert(row["plan"], Plan)
    kept = plan(peer, "--pin", str(row["number"]))
    assert kept.returncode == 0 and "is kept for Starling Demo until you unpin it" in kept.stderr
    state = peer.wait(lambda state: serves(wanted, state))
    assert state.choice is not None and is_kept(state.choice)
    assert state.pins == {MODEL: wanted}
    assert "Kept  " in plan(peer).stdout
    assert plan(peer, "--unpin").returncode == 0
    peer.wait(lambda state: not state.pins and state.choice is not None and not is_kept(state.choice))
    peer.wait_joined()
