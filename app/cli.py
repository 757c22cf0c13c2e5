"""The command line: one parser, and the words that talk to a running engine over the control link.

Holds no rule of its own: it sends commands and prints state. stdout is for answers, stderr for everything else.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from app.cli_peers_text import peers_object, peers_text
from app.cli_text import earnings_object, earnings_text, job_object, jobs_text, plan_object, status_object, status_text
from app.control_client import ControlClient, ControlLinkLost, EngineNotRunning
from app.lockfile import is_home_locked
from core import commands as c
from core.home import Home
from core.node_state import NodeState

LINK_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 600.0
LONGEST_PAUSE_MINUTES = 525_600.0

COMMAND_WORDS: dict[type, str] = {
    c.JoinNetwork: "join",
    c.LeaveNetwork: "leave",
    c.PauseWork: "pause",
    c.ResumeWork: "resume",
    c.MeasureMachine: "bench",
    c.AddModel: "models add",
    c.InstallModel: "models install",
    c.QuantizeModel: "models quantize",
    c.VerifyModels: "models verify",
    c.RemoveModel: "models remove",
    c.StopModelWork: "Ctrl-C while `models` works",
    c.ServeModel: "models serve",
    c.PinPlan: "plan --pin",
    c.UnpinPlan: "plan --unpin",
    c.CancelJob: "cancel",
    c.RedeemVouchers: "redeem",
    c.WithdrawEarnings: "withdraw",
    c.QuitEngine: "quit",
}


class UsageError(Exception):
    """The words make no sense together; the message says what to write instead."""


def control_words(words: argparse._SubParsersAction[argparse.ArgumentParser], add_home: Callable[..., None]) -> None:
    """Add every word that needs a running engine."""
    for name, text in (
        ("status", "what the engine is doing"),
        ("jobs", "live jobs and the newest that ended"),
        ("earnings", "what was earned, in five states"),
        ("peers", "who is connected, and who else is known"),
    ):
        parser = words.add_parser(name, help=text)
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        add_home(parser)
    pause = words.add_parser("pause", help="take no new jobs; running ones are finished")
    pause.add_argument("--for", dest="minutes", type=minutes, metavar="MINUTES", help="then resume by itself")
    for name, text in (("leave", "leave the network, keep the engine"), ("quit", "leave, and stop the engine")):
        words.add_parser(name, help=text)
    for name, text in (
        ("join", "join the network"),
        ("resume", "take jobs again"),
        ("redeem", "cash all vouchers now"),
        ("withdraw", "pay out to the owner's address"),
    ):
        add_home(words.add_parser(name, help=text))
    for name in ("pause", "leave", "quit"):
        words.choices[name].add_argument("--now", action="store_true", help="stop running jobs too")
        add_home(words.choices[name])
    cancel = words.add_parser("cancel", help="stop one job; delivered tokens stay billed")
    cancel.add_argument("job", help="the job's id, from `starling jobs`")
    add_home(cancel)


def run_control_word(arguments: argparse.Namespace, home: Home) -> int:
    """Carry out one word against the running engine of this home."""
    try:
        with reach(home) as client:
            if arguments.word in ("status", "jobs", "earnings", "peers"):
                return _show(arguments, client.snapshot())
            return send(client, command_of(arguments))
    except (EngineNotRunning, ControlLinkLost) as error:
        print(error, file=sys.stderr)
        return 1


def reach(home: Home) -> ControlClient:
    """The home's engine; waits only for one that holds the home already. Raises EngineNotRunning."""
    return ControlClient.connect(home, timeout_s=LINK_TIMEOUT_S if is_home_locked(home) else 0.0)


def minutes(text: str) -> float:
    """How long a pause may be. Raises ArgumentTypeError."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= LONGEST_PAUSE_MINUTES:
        raise argparse.ArgumentTypeError(f"{text} is not a number of minutes above zero")
    return found


def send(client: ControlClient, command: c.Command) -> int:
    """Execute one command and say how it went; 0 when it was done."""
    reply = client.execute(command, timeout_s=COMMAND_TIMEOUT_S)
    match reply:
        case c.Done():
            print(reply.text or "Done.", file=sys.stderr)
            return 0
        case c.Refused():
            print(reply.reason, file=sys.stderr)
            return 1


def command_of(arguments: argparse.Namespace) -> c.Command:
    """The command that a word stands for."""
    match arguments.word:
        case "join":
            return c.JoinNetwork()
        case "leave":
            return c.LeaveNetwork(now=arguments.now)
        case "pause":
            return c.PauseWork(for_s=arguments.minutes * 60 if arguments.minutes else None, now=arguments.now)
        case "resume":
            return c.ResumeWork()
        case "redeem":
            return c.RedeemVouchers()
        case "withdraw":
            return c.WithdrawEarnings()
        case "cancel":
            return c.CancelJob(arguments.job)
        case "quit":
            return c.QuitEngine(now=arguments.now)
        case "bench":
            return c.MeasureMachine()
    raise UsageError(f"There is no word {arguments.word}; see `starling --help`.")


def _show(arguments: argparse.Namespace, state: NodeState) -> int:
    texts = {"status": status_text, "jobs": jobs_text, "earnings": earnings_text, "peers": peers_text}
    if not arguments.json:
        print(texts[arguments.word](state))
        return 0
    objects: dict[str, Callable[[NodeState], object]] = {
        "status": status_object,
        "jobs": lambda s: {"live": [job_object(j) for j in s.jobs.values()], "ended": [job_object(j) for j in s.ended]},
        "earnings": lambda s: {**earnings_object(s), "plan": plan_object(s)},
        "peers": peers_object,
    }
    print(json.dumps(objects[arguments.word](state)))
    return 0
