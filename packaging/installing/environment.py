"""Make `.venv` and keep it as the lock files say. Never decides what a computer needs: choices.py does.

A part that was interrupted is found by the stamp and the environment is made anew.
"""

from __future__ import annotations

import os
import shutil
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from installing import choices
from installing.choices import Advice
from installing.facts import Facts, Flavour
from installing.failures import explain
from installing.home import Home
from installing.llama import build_and_install
from installing.machine import look
from installing.progress import StepError, Steps, run_logged
from installing.setup_lock import StillHeldError, only_one
from installing.stamp import Outstanding, Part, Stamp, fingerprint, outstanding, read_stamp, write_stamp
from installing.torch_source import SKIPPED, torch_words

PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
INSTALL = ("install", "--progress-bar=off", "--retries=2")
LOCKS = {Part.BASE: "", Part.LLAMA: "-llama", Part.TORCH: "-torch", Part.DEV: "-dev"}


class SetupError(Exception):
    """The set-up cannot go on; carries what to tell the owner."""

    def __init__(self, advice: Advice) -> None:
        super().__init__(advice.sentence)
        self.advice = advice


@dataclass(frozen=True)
class Wish:
    """What the owner's words ask of the environment."""

    tests: bool = False
    torch: bool = False


@dataclass(frozen=True)
class Work:
    """One set-up under way."""

    home: Home
    facts: Facts
    wish: Wish
    steps: Steps


def prepare(home: Home, wish: Wish, screen: TextIO) -> Facts:
    """Bring the environment to what the lock files say; next to nothing to do when it is there already."""
    facts = look(home.root)
    refuse(choices.python_advice(facts.python))
    if find_outstanding(home, facts, wish).is_nothing:
        return facts
    try:
        with only_one(home.room, lambda sentence: print(f"{sentence}.", file=screen, flush=True)):
            left = find_outstanding(home, facts, wish)
            if not left.is_nothing:
                do_work(home, facts, wish, left=left, screen=screen)
    except StillHeldError as held:
        raise SetupError(Advice("Another set-up has been running for hours; stop it, then run this again")) from held
    return facts


def refuse(advice: Advice | None) -> None:
    """Stop here if there is something to say."""
    if advice is not None:
        raise SetupError(advice)


def find_outstanding(home: Home, facts: Facts, wish: Wish) -> Outstanding:
    """What is left to do, with a missing interpreter counted as a half-made environment."""
    stamp = read_stamp(home.stamp) if home.python.exists() else None
    return outstanding(stamp, wanted_parts(home, facts, wish, stamp=stamp), version_of(facts))


def version_of(facts: Facts) -> str:
    """The Python version as the stamp has it."""
    return ".".join(map(str, facts.python))


def wanted_parts(home: Home, facts: Facts, wish: Wish, *, stamp: Stamp | None) -> Mapping[Part, str]:
    """The parts that these words need on this computer, each with its fingerprint."""
    parts = [Part.BASE, Part.LLAMA]
    was_skipped = stamp is not None and stamp.parts.get(Part.TORCH.value) == SKIPPED
    if is_torch_asked(wish) or (choices.wants_torch(facts, asked=False) and not was_skipped):
        parts.append(Part.TORCH)
    if wish.tests:
        parts.append(Part.DEV)
    flavour = choices.choose_flavour(facts).value
    return {part: fingerprint(lock_text(home, part), flavour if part is Part.LLAMA else "") for part in parts}


def is_torch_asked(wish: Wish) -> bool:
    """Whether torch must be there, rather than merely being of use."""
    return wish.torch or wish.tests


def lock_text(home: Home, part: Part) -> str:
    """The exact versions of a part."""
    return home.lock_file(LOCKS[part]).read_text()


def do_work(home: Home, facts: Facts, wish: Wish, *, left: Outstanding, screen: TextIO) -> None:
    """Check the computer, then run the steps that are left."""
    home.log.write_text("")
    needs = choices.needed(facts, for_tests=wish.tests)
    is_installing = bool(needs) and facts.is_root and facts.is_ci and bool(choices.install_words(needs, facts))
    if not is_installing:
        refuse(choices.missing_advice(needs, facts))
    refuse(choices.space_advice(facts, choices.ENVIRONMENT_BYTES))
    steps = Steps(is_installing + left.remake + len(left.parts), screen, home.log)
    work = Work(home, facts, wish, steps)
    steps.say(f"Setting up Starling in {home.venv}; the full log is {home.log}")
    if is_installing:
        install_system_packages(work, choices.install_words(needs, facts))
    if left.remake:
        make_environment(work)
    for part in left.parts:
        install_part(work, part)


def install_system_packages(work: Work, words: list[str]) -> None:
    """As root where nobody can be asked: bring what is missing with the system's own tool."""
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    with work.steps.step(f"Installing system packages: {' '.join(words[3:])}"):
        if words[0] == "apt-get":
            attempt(work, ["apt-get", "update"], env=env, step="apt-get update")
        attempt(work, words, env=env, step=" ".join(words[:2]))


def make_environment(work: Work) -> None:
    """Make an empty environment in place of whatever is there."""
    home = work.home
    with work.steps.step(f"Making a Python {version_of(work.facts)} environment"):
        try:
            shutil.rmtree(home.venv, ignore_errors=True)
            venv.create(home.venv, clear=True, with_pip=True, symlinks=os.name != "nt")
        except (OSError, Exception) as fault:  # noqa: BLE001 - ensurepip's child fails with whatever it fails with
            raise SetupError(Advice(explain(str(fault), step="Making the environment"))) from fault
        write_stamp(home.stamp, Stamp(version_of(work.facts)))


def install_part(work: Work, part: Part) -> None:
    """Install one part between two writes of the stamp."""
    stamp = read_stamp(work.home.stamp) or Stamp(version_of(work.facts))
    if part is not Part.LLAMA:  # It is built outside the environment: an interrupted build leaves nothing half-made.
        write_stamp(work.home.stamp, stamp.starting(part))
    match part:
        case Part.BASE:
            install_base(work)
        case Part.LLAMA:
            install_llama(work)
        case Part.TORCH:
            if not install_torch(work):
                write_stamp(work.home.stamp, Stamp(stamp.python, {**stamp.parts, part.value: SKIPPED}))
                return
        case Part.DEV:
            install_lock(work, part, "Installing what the tests need")
    wanted = wanted_parts(work.home, work.facts, work.wish, stamp=None)
    write_stamp(work.home.stamp, stamp.holding(part, wanted[part]))


def install_base(work: Work) -> None:
    """The app's own packages, and the checkout itself on the environment's path."""
    install_lock(work, Part.BASE, "Installing the app's packages")
    site = next(iter(work.home.venv.glob("lib/python*/site-packages")), work.home.venv / "Lib" / "site-packages")
    (site / "starling.pth").write_text(f"{work.home.root}\n")


def install_lock(work: Work, part: Part, title: str, *, words: tuple[str, ...] = ()) -> None:
    """Install a lock file, counting the packages that pip has looked at."""
    total = sum("==" in line for line in lock_text(work.home, part).splitlines())
    seen: set[str] = set()

    def on_line(line: str) -> None:
        if line.startswith(("Collecting ", "Processing ", "Requirement already satisfied: ")):
            seen.add(line)
            work.steps.count(min(len(seen), total), total)

    with work.steps.step(f"{title} ({total})"):
        lock = str(work.home.lock_file(LOCKS[part]))
        command = [str(work.home.python), *PIP, *INSTALL, "-r", lock, *words]
        try:
            run_logged(command, work.home.log, on_line=on_line)
        except StepError as fault:
            raise SetupError(Advice(explain(fault.tail, step=title))) from fault


def install_llama(work: Work) -> None:
    """Build llama.cpp for this computer, or for its processor where that fails, and say what that costs."""
    flavour = choices.choose_flavour(work.facts)
    warning = choices.unused_gpu(work.facts, flavour)
    if warning is not None:
        work.steps.shout(warning.sentence, warning.line)
    try:
        built = build_and_install(work.home, flavour, work.steps)
    except StepError as fault:
        raise SetupError(Advice(explain(fault.tail, step="Building llama.cpp"))) from fault
    if built is Flavour.CPU and flavour is not Flavour.CPU:
        work.steps.shout(
            f"llama.cpp could not be built for {flavour.value}, so it was built for the processor and your"
            f" {work.facts.gpu.value} is left unused; the reason is in {work.home.log}, and this tries again",
            f"rm {work.home.stamp} && ./starling setup",
        )


def install_torch(work: Work) -> bool:
    """Install torch, its size said first. True if it is there now; a torch that was merely of use may fail."""
    title = f"Installing torch: {choices.torch_size(work.facts)}"
    try:
        install_lock(work, Part.TORCH, title, words=torch_words(work.facts))
    except SetupError as fault:
        if is_torch_asked(work.wish):
            raise
        work.steps.say(
            f"{fault.advice.sentence}; going on without torch. Starling still benchmarks and serves; to try again",
            "./starling setup --with-torch",
        )
        return False
    return True


def attempt(work: Work, words: list[str], *, env: Mapping[str, str], step: str) -> None:
    """Run one command; SetupError with its reason if it fails."""
    try:
        run_logged(words, work.home.log, extra_env=env)
    except StepError as fault:
        raise SetupError(Advice(explain(fault.tail, step=step))) from fault
