"""`starling ask` from a second home: streams, pays, cancels, and survives what dies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from app.devnet import Devnet
from core import commands as c
from core.job import JobState
from core.node_state import NodeState
from core.state import earnings
from tests.e2e.conftest import SLOW_MODEL, Peer, ask, ask_words

pytestmark = pytest.mark.e2e


def decoding(state: NodeState) -> bool:
    return any(job.state is JobState.DECODING for job in state.jobs.values())


def test_an_answer_streams_and_its_tokens_are_paid(peer: Peer, devnet: Devnet, tmp_path: Path) -> None:
    before = peer.state()
    answer = ask(tmp_path, devnet, "starling-demo")
    assert answer["exit"] == 0
    assert answer["state"] == "finished"
    assert answer["text"].startswith("1, 2, 3")
    after = peer.wait(lambda s: earnings(s).total - earnings(before).total == int(answer["paid"]), timeout_s=20)
    job = after.ended[0]
    assert job.usage.completion_tokens == answer["completion_tokens"]
    assert job.amount == job.vouchered == int(answer["amount"])
    learned = peer.wait(lambda s: s.choice and any(cell.run.plan == s.choice.plan for cell in s.speeds.cells))
    assert learned.demand.asked[-1].output_tokens == answer["completion_tokens"]


def test_interrupting_bills_only_delivered_tokens(serving_slowly: Peer, devnet: Devnet, tmp_path: Path) -> None:
    words = ask_words(tmp_path, devnet, SLOW_MODEL, "--max-tokens", "1500")
    asking = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    serving_slowly.wait(decoding, timeout_s=60)
    time.sleep(0.5)
    asking.send_signal(signal.SIGINT)
    _, said = asking.communicate(timeout=30)
    assert asking.returncode == 130
    assert b"Cancelled." in said
    state = serving_slowly.wait(lambda s: not s.jobs, timeout_s=30)
    job = state.ended[0]
    assert job.state is JobState.CANCELLED
    assert 0 < job.usage.completion_tokens < 1500
    assert job.vouchered == job.amount


def test_a_killed_worker_is_a_clear_failure_and_comes_back(
    serving_slowly: Peer, devnet: Devnet, tmp_path: Path
) -> None:
    words = ask_words(tmp_path, devnet, SLOW_MODEL, "--max-tokens", "1500")
    asking = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    state = serving_slowly.wait(decoding, timeout_s=60)
    held = earnings(state).earned
    kill_worker(serving_slowly)
    _, said = asking.communicate(timeout=60)
    assert asking.returncode == 1
    assert b"The worker stopped while this job ran" in said
    serving_slowly.wait_joined(SLOW_MODEL)
    assert earnings(serving_slowly.state()).total >= held
    assert ask(tmp_path, devnet, SLOW_MODEL, "--max-tokens", "20")["state"] == "finished"


def test_a_killed_engine_comes_back_with_every_voucher(serving_slowly: Peer, devnet: Devnet, tmp_path: Path) -> None:
    words = ask_words(tmp_path, devnet, SLOW_MODEL, "--max-tokens", "1500")
    asking = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    serving_slowly.wait(decoding, timeout_s=60)
    time.sleep(0.5)
    assert serving_slowly.child is not None
    before = serving_slowly.state()
    os.kill(serving_slowly.child.pid, signal.SIGKILL)
    asking.communicate(timeout=60)
    assert asking.returncode == 1
    serving_slowly.stop()
    serving_slowly.start("--model", SLOW_MODEL)
    after = serving_slowly.wait_joined(SLOW_MODEL)
    assert after.ended[0].state is JobState.FAILED
    vouchers = sum(lane.cumulative for lane in after.ledger.lanes.values())
    assert earnings(after).total == vouchers >= earnings(before).earned
    assert isinstance(serving_slowly.execute(c.RedeemVouchers()), c.Done)
    settled = earnings(serving_slowly.state())
    assert (settled.earned, settled.withdrawable) == (0, vouchers)


def test_paying_out_moves_everything_to_the_owner(peer: Peer, devnet: Devnet, tmp_path: Path) -> None:
    ask(tmp_path, devnet, "starling-demo")
    total = peer.wait(lambda s: not s.jobs and earnings(s).accruing == 0, timeout_s=20)
    peer.execute(c.RedeemVouchers())
    peer.execute(c.WithdrawEarnings())
    state = peer.state()
    assert earnings(state).paid == earnings(total).total
    assert state.account is not None
    assert (state.account.owner_balance, state.account.earned) == (earnings(state).paid, 0)


def test_a_paused_peer_takes_nothing_and_says_so(peer: Peer, devnet: Devnet, tmp_path: Path) -> None:
    peer.execute(c.PauseWork())
    answer = ask(tmp_path, devnet, "starling-demo")
    assert answer["exit"] == 1
    assert "paused" in answer["reason"]
    peer.execute(c.ResumeWork())
    assert ask(tmp_path, devnet, "starling-demo")["state"] == "finished"


def test_a_model_that_nobody_serves_is_one_sentence(peer: Peer, devnet: Devnet, tmp_path: Path) -> None:
    answer = ask(tmp_path, devnet, "no-such-model")
    assert answer["exit"] == 1
    assert "No peer serves no-such-model now." in answer["said"]


def kill_worker(peer: Peer) -> None:
    assert peer.child is not None
    for child in psutil.Process(peer.child.pid).children(recursive=True):
        if "core.worker.main" in " ".join(child.cmdline()):
            child.kill()
