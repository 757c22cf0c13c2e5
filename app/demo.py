"""`starling demo`: the main job on this computer, in processes of its own: chain, bootstrap peer, provider, requester.

Starts and watches; every part is the real one. stdout is for the one JSON object, stderr for progress.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from app.child import Child, ChildFailed, end_on_signals
from app.cli_text import earnings_object, money_of, plan_object
from app.control_client import ControlClient, ControlLinkLost, EngineNotRunning
from app.devnet import Devnet
from core import commands as c
from core.home import Home
from core.network import Network
from core.node_state import NodeState, Presence
from core.payments.chain_values import ChainError
from core.state import earnings

JOIN_TIMEOUT_S = 300.0
JOB_TIMEOUT_S = 300.0
LINK_TIMEOUT_S = 20.0
REDEEM_TIMEOUT_S = 90.0
LAST_PAYMENT_S = 20.0
ENDLESS = 0


class DemoFailed(Exception):
    """The demo cannot go on; the message is one sentence."""


class Steps:
    """Numbered lines with the time that each step took."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._number = 0
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        self._number += 1
        took = time.monotonic() - self._began
        print(f"[{self._number}/{self._total}] {took:5.1f} s  {text}", file=sys.stderr, flush=True)


def run_demo(arguments: argparse.Namespace, home: Home | None) -> int:
    """The whole demo; 0 when everything asked for was served, settled and stopped."""
    if arguments.jobs < 0 or (arguments.json and not arguments.jobs) or (arguments.jobs and not arguments.headless):
        print("Write `starling demo --headless --jobs N [--json] [--hold]` with N of 1 or more.", file=sys.stderr)
        return 2
    end_on_signals()
    try:
        with ExitStack() as stack:
            folder = home.folder if home is not None else Path(stack.enter_context(_fresh_folder()))
            return _run_headless(arguments, folder) if arguments.headless else _run_window(folder)
    except (ChildFailed, DemoFailed, ChainError, EngineNotRunning, ControlLinkLost) as error:
        print(error, file=sys.stderr)
        return 1


def _fresh_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="starling-demo-", ignore_cleanup_errors=True)


def _run_window(folder: Path) -> int:
    """Closing the window ends the whole demo, so it says nothing of an engine that goes on."""
    from app.gui.main import run_window
    from app.gui.preferences import Preferences

    steps = Steps(4)
    provider_home = Home(folder / "provider")
    with Devnet(folder / "network", tell=steps) as devnet:
        steps("Opening the window. Press Join network, and the requester's jobs come; closing it ends the demo")
        Preferences(provider_home.folder / "window.ini").mark_closing_told()
        with _requester(folder, devnet, jobs=ENDLESS):
            code = run_window(provider_home.folder, engine_words=("--network", str(devnet.network_file)))
            _quit_engine(provider_home)
            return code


def _run_headless(arguments: argparse.Namespace, folder: Path) -> int:
    steps = Steps(8 if arguments.jobs else 6)
    provider_home = Home(folder / "provider")
    with ExitStack() as stack:
        devnet = stack.enter_context(Devnet(folder / "network", tell=steps))
        steps("Starting the provider")
        provider = stack.enter_context(_provider(provider_home, devnet))
        client = stack.enter_context(_connect(provider_home, provider))
        joined = _wait_for(client, provider, is_met=lambda s: s.presence is Presence.JOINED, timeout_s=JOIN_TIMEOUT_S)
        steps(f"Joined: {joined.choice.reason if joined.choice else 'serving'}")
        steps("Starting the requester")
        requester = stack.enter_context(_requester(folder, devnet, jobs=arguments.jobs))
        if not arguments.jobs:
            return _hold(devnet.network, watch=partial(_tell_jobs, requester, ENDLESS))
        _tell_jobs(requester, arguments.jobs)
        _until_paid(client)
        steps("Cashing the vouchers on the chain")
        client.execute(c.RedeemVouchers(), timeout_s=REDEEM_TIMEOUT_S)
        state = client.snapshot()
        steps(f"Settled: {money_of(state, earnings(state).withdrawable)} can be withdrawn")
        return _report(arguments, state, network=devnet.network)


def _report(arguments: argparse.Namespace, state: NodeState, *, network: Network | None) -> int:
    if network is None:
        raise DemoFailed("The network is gone.")
    result = result_object(state, network)
    if arguments.json:
        print(json.dumps(result), flush=True)
    else:
        print(json.dumps(result, indent=2), flush=True)
    is_good = result["jobs"]["finished"] >= arguments.jobs and result["jobs"]["failed"] == 0
    if arguments.hold:
        _hold(network)
    return 0 if is_good else 1


def result_object(state: NodeState, network: Network) -> dict[str, Any]:
    """What the demo did, for programs; money as decimal strings of the smallest unit."""
    transactions = [t.transaction for t in state.ledger.transactions if t.kind == "redemption"]
    by_class: dict[str, int] = {}
    for job in state.ended:
        if job.state == "finished":
            by_class[job.terms.priority.value] = by_class.get(job.terms.priority.value, 0) + 1
    money = {name: value for name, value in earnings_object(state).items() if name != "symbol"}
    return {
        "jobs": {"finished": state.total.finished, "failed": state.total.failed, "by_class": by_class},
        "tokens": {"prompt": state.total.prompt_tokens, "completion": state.total.completion_tokens},
        "peers": state.peers,
        "plan": plan_object(state),
        "earnings": money,
        "worker": {} if state.network is None else {"owner": state.network.owner, "hot": state.network.hot},
        "chain": {
            "chain_id": network.chain_id,
            "rpc": network.rpc,
            "escrow": network.escrow,
            "token": network.token,
            "redeem_transactions": transactions,
        },
    }


def _provider(home: Home, devnet: Devnet) -> Child:
    words = ["app", "--headless", "--join", "--home", str(home.folder), "--network", str(devnet.network_file)]
    return Child("provider", words, log=home.logs / "process.log")


def _requester(folder: Path, devnet: Devnet, *, jobs: int) -> Child:
    home = folder / "requester"
    words = ["app.demo_requester", "--home", str(home), "--network", str(devnet.network_file), "--jobs", str(jobs)]
    return Child("requester", words, log=home / "logs" / "process.log")


def _connect(home: Home, provider: Child) -> ControlClient:
    deadline = time.monotonic() + LINK_TIMEOUT_S
    while provider.is_running and time.monotonic() < deadline:
        try:
            return ControlClient.connect(home, timeout_s=1.0)
        except EngineNotRunning:
            time.sleep(0.05)
    raise DemoFailed(f"The provider did not start: {provider.last_words()}")


def _wait_for(client: ControlClient, provider: Child, *, is_met: Any, timeout_s: float) -> NodeState:
    deadline = time.monotonic() + timeout_s
    told = ""
    for state in client.watch():
        if is_met(state):
            return state
        if state.progress is not None and state.progress.text != told:
            told = state.progress.text
            print(f"             {told}", file=sys.stderr, flush=True)
        if "network" in state.trouble:
            raise DemoFailed(state.trouble["network"])
        if time.monotonic() > deadline or not provider.is_running:
            break
    raise DemoFailed(f"The provider did not join: {provider.last_words()}")


def _until_paid(client: ControlClient) -> None:
    """The requester tells of a job when it has sent its last payment; the provider may yet have to take it in."""
    deadline = time.monotonic() + LAST_PAYMENT_S
    while time.monotonic() < deadline:
        state = client.snapshot()
        lanes = state.ledger.lanes.values()
        if not state.jobs and all(lane.cumulative >= lane.billed for lane in lanes):
            return
        time.sleep(0.1)


def _tell_jobs(requester: Child, jobs: int) -> None:
    """Follow the requester through so many jobs; ENDLESS never returns."""
    for number, outcome in enumerate(_outcomes(requester, jobs), start=1):
        text = f"{outcome['priority']:<11} {outcome['completion_tokens']:>4} tokens  {outcome['state']}"
        if outcome["state"] != "finished":
            text += f": {outcome['reason']}"
        print(f"             job {number}{f'/{jobs}' if jobs else ''}: {text}", file=sys.stderr, flush=True)


def _outcomes(requester: Child, jobs: int) -> Iterator[dict[str, Any]]:
    for _ in range(jobs) if jobs else count():
        yield requester.line(timeout_s=JOB_TIMEOUT_S)


def _quit_engine(home: Home) -> None:
    try:
        with ControlClient.connect(home, timeout_s=2.0) as client:
            client.execute(c.QuitEngine(now=True), timeout_s=30.0)
    except (EngineNotRunning, ControlLinkLost):
        return


def _hold(network: Network | None, watch: Callable[[], object] | None = None) -> int:
    where = f" The chain answers at {network.rpc}." if network is not None else ""
    print(f"Holding everything up until Ctrl-C.{where}", file=sys.stderr, flush=True)
    try:
        (watch or threading.Event().wait)()
    except KeyboardInterrupt:
        print("Stopping.", file=sys.stderr)
    return 0
