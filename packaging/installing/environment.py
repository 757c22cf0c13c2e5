"""Bring `.venv` to what the lock files say. Never decides what a computer needs: choices.py does.

A part that was interrupted is found by the stamp, and the environment is made anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from collections.abc import Mapping
from dataclasses import replace
from typing import TextIO

from installing import choices
from installing.choices import Advice
from installing.facts import Facts
from installing.failures import explain
from installing.home import Home
from installing.machine import look
from installing.parts import LOCKS, SKIPPED, install_part
from installing.progress import Steps
from installing.setup_lock import StillHeldError, only_one
from installing.stamp import Outstanding, Part, Stamp, fingerprint, outstanding, read_stamp, write_stamp
from installing.work import SetupError, Wish, Work, refuse


def prepare(home: Home, wish: Wish, *, screen: TextIO) -> Facts:
    """Bring the environment to what the lock files say; next to nothing to do when it is there already."""
    facts = look(home.root)
    refuse(choices.python_advice(facts.python))
    work = Work(home, facts, wish, Steps(0, screen))
    if find_outstanding(work).is_nothing:
        return facts
    try:
        with only_one(home.room, work.steps.say):
            left = find_outstanding(work)
            if not left.is_nothing:
                do_work(work, left)
    except StillHeldError as held:
        raise SetupError(Advice("Another set-up has been running for hours; stop it, then run this again")) from held
    except OSError as fault:
        raise SetupError(Advice(explain(str(fault), step="Setting up"))) from fault
    return facts


def find_outstanding(work: Work) -> Outstanding:
    """What is left to do, with a missing interpreter counted as a half-made environment."""
    stamp = read_stamp(work.home.stamp) if work.home.python.exists() else None
    return outstanding(stamp, wanted_parts(work, stamp), python=work.python_version)


def wanted_parts(work: Work, stamp: Stamp | None) -> Mapping[Part, str]:
    """The parts that these words need on this computer, each with its fingerprint."""
    parts = [Part.BASE, Part.LLAMA]
    if work.wish.needs_torch or choices.has_use_for_torch(work.facts):
        parts.append(Part.TORCH)
    if work.wish.tests:
        parts.append(Part.DEV)
    flavour = choices.choose_flavour(work.facts).value
    parts = [part for part in parts if not is_settled(work, part, stamp=stamp)]
    texts = {part: work.home.lock_file(LOCKS[part]).read_text() for part in parts}
    return {part: fingerprint(texts[part], flavour if part is Part.LLAMA else "") for part in parts}


def is_settled(work: Work, part: Part, *, stamp: Stamp | None) -> bool:
    """Whether a part failed before and is not to be tried at every start: only `setup` does, and who needs torch."""
    was_skipped = stamp is not None and stamp.parts.get(part.value) == SKIPPED
    is_needed = part is Part.TORCH and work.wish.needs_torch
    return was_skipped and not is_needed and not work.wish.again


def do_work(work: Work, left: Outstanding) -> None:
    """Check the computer, then run the steps that are left."""
    facts, home, steps = work.facts, work.home, work.steps
    home.log.write_text("")
    needs = choices.needed(facts, for_tests=work.wish.tests)
    words = choices.install_words(needs, facts) if facts.is_root and facts.is_ci else []
    if not words:
        refuse(choices.missing_advice(needs, facts))
    refuse(choices.space_advice(facts, needed_bytes=choices.ENVIRONMENT_BYTES))
    work = replace(work, steps=replace(steps, total=bool(words) + left.remake + len(left.parts)))
    work.steps.say(f"Setting up Starling in {home.venv}; the full log is {home.log}")
    if words:
        install_system_packages(work, words)
    if left.remake:
        make_environment(work)
    wanted = wanted_parts(work, None)
    for part in left.parts:
        install_part(work, part, fingerprint=wanted[part])


def install_system_packages(work: Work, words: list[str]) -> None:
    """As root where nobody can be asked: bring what is missing with the system's own tool."""
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    with work.steps.step(f"Installing system packages: {' '.join(words[3:])}"):
        if words[0] == "apt-get":
            work.attempt(["apt-get", "update"], env=env, step="apt-get update")
        work.attempt(words, env=env, step=" ".join(words[:2]))


def make_environment(work: Work) -> None:
    """Make an empty environment in place of whatever is there."""
    home = work.home
    with work.steps.step(f"Making a Python {work.python_version} environment"):
        try:
            shutil.rmtree(home.venv, ignore_errors=True)
            venv.create(home.venv, clear=True, with_pip=True, symlinks=os.name != "nt")
        except (OSError, subprocess.CalledProcessError) as fault:
            said = getattr(fault, "output", None) or str(fault).encode()
            raise SetupError(Advice(explain(said.decode(errors="replace"), step="Making the environment"))) from fault
        write_stamp(home.stamp, Stamp(work.python_version))
