"""Turn the owner's words into a set-up and what follows it: the app, the checks, or nothing. Never decides more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from installing.checks import run_checks
from installing.choices import choose_flavour, unused_gpu
from installing.environment import prepare
from installing.facts import Facts, Flavour
from installing.home import Home
from installing.parts import SKIPPED
from installing.progress import in_lines
from installing.stamp import Part, read_stamp
from installing.work import SetupError, Wish

WITH_TORCH = "--with-torch"
WINDOWLESS = {"--headless", "--help", "-h", "--version"}
VALUED = {"--home", "--network", "--port", "--model"}
USAGE = "usage: ./starling [setup [--with-torch] | test [pytest words] | a word of the app (./starling --help)]"


def start(home: Home, words: Sequence[str]) -> int:
    """Do what the words ask; the exit code."""
    first, rest = (words[0], list(words[1:])) if words else ("", [])
    wish = Wish(tests=first == "test", torch=WITH_TORCH in words, again=first == "setup")
    if first == "setup" and set(rest) - {WITH_TORCH}:
        print(USAGE, file=sys.stderr)
        return 2
    # Asked to end, stop as on Ctrl-C: what was started ends too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        facts = prepare(home, wish, screen=sys.stderr)
    except SetupError as fault:
        return explain_failure(home, fault)
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on.", file=sys.stderr)
        return 130
    match first:
        case "setup":
            return say_ready(home, facts)
        case "test":
            return run_checks(home, [word for word in rest if word != WITH_TORCH])
        case _:
            return run_app(home, [word for word in words if word != WITH_TORCH], facts=facts)


def explain_failure(home: Home, fault: SetupError) -> int:
    """One sentence, the line that fixes it, and where the log is."""
    print(in_lines(fault.advice), end="", file=sys.stderr)
    if home.log.exists():
        print(f"The full log is {home.log}", file=sys.stderr)
    return 1


def say_ready(home: Home, facts: Facts) -> int:
    """Close a set-up that was asked for by itself."""
    stamp = read_stamp(home.stamp)
    has_fallen_back = stamp is not None and stamp.parts.get(Part.LLAMA.value) == SKIPPED
    flavour = Flavour.CPU if has_fallen_back else choose_flavour(facts)
    warning = unused_gpu(facts, flavour)
    if warning is not None:
        print(in_lines(warning), end="", file=sys.stderr)
    print(f"Ready: {facts.gpu.value}, llama.cpp for {flavour.value}. ./starling starts it.", file=sys.stderr)
    return 0


def opens_window(words: Sequence[str]) -> bool:
    """Whether these words ask for a window: none but flags, or the demo, and nothing that says otherwise."""
    before = ("", *words)
    said = [word for word, flag in zip(words, before, strict=False) if not word.startswith("-") and flag not in VALUED]
    return said[:1] in ([], ["demo"]) and not set(words) & WINDOWLESS


def run_app(home: Home, words: list[str], *, facts: Facts) -> int:
    """Become the app. Without a display the window's word is turned into the headless one, and that is said."""
    if opens_window(words) and not facts.has_display:
        print("There is no display here, so Starling runs without its window, as with --headless.", file=sys.stderr)
        words = [*words, "--headless"]
    # -P: a folder named app where the owner stands must not win over ours.
    command = [str(home.python), "-P", "-m", "app", *words]
    if os.name == "nt":
        return subprocess.call(command)
    sys.stderr.flush()
    os.execv(command[0], command)
    raise AssertionError("execv came back")
