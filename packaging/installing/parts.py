"""Install one part of the environment between two writes of the stamp. Never chooses which: environment.py does."""

from __future__ import annotations

import shutil

from installing import choices
from installing.choices import Advice
from installing.failures import explain
from installing.llama import build_and_install
from installing.progress import StepError
from installing.stamp import Part, Stamp, read_stamp, write_stamp
from installing.torch_source import torch_words
from installing.work import SetupError, Work

SKIPPED = "skipped"
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
INSTALL = ("install", "--progress-bar=off", "--retries=2")
LOCKS = {Part.BASE: "", Part.LLAMA: "-llama", Part.TORCH: "-torch", Part.DEV: "-dev"}
INSTALLING = "Installing collected packages"
COUNTED = ("Collecting ", "Processing ", "Requirement already satisfied: ")


def install_part(work: Work, part: Part, *, fingerprint: str) -> None:
    """Install one part and stamp it; what may fail (a GPU build, a torch of mere use) is then stamped as skipped."""
    match part:
        case Part.BASE:
            install_base(work)
        case Part.LLAMA:
            fingerprint = fingerprint if install_llama(work) else SKIPPED
        case Part.TORCH:
            fingerprint = fingerprint if install_torch(work) else SKIPPED
        case Part.DEV:
            install_lock(work, part, title="Installing what the tests need")
            remove_stale_stubs(work)
    write_stamp(work.home.stamp, stamp_of(work).holding(part, fingerprint))


def remove_stale_stubs(work: Work) -> None:
    """libp2p brings trio-typing, whose stubs of an old trio hide the types that trio itself carries (PEP 561)."""
    for stubs in work.home.venv.glob("**/site-packages/trio-stubs"):
        shutil.rmtree(stubs, ignore_errors=True)


def stamp_of(work: Work) -> Stamp:
    """What the environment holds now."""
    return read_stamp(work.home.stamp) or Stamp(work.python_version)


def install_base(work: Work) -> None:
    """The app's own packages, and the checkout itself on the environment's path."""
    install_lock(work, Part.BASE, title="Installing the app's packages")
    site = next(iter(work.home.venv.glob("lib/python*/site-packages")), work.home.venv / "Lib" / "site-packages")
    (site / "starling.pth").write_text(f"{work.home.root}\n")


def install_lock(work: Work, part: Part, *, title: str, words: tuple[str, ...] = ()) -> None:
    """Install a lock file, counting the packages that pip has looked at.

    Until pip begins to install, a failure or a Ctrl-C leaves the environment as it was, so it is not stamped before.
    """
    lock = work.home.lock_file(LOCKS[part])
    total = sum("==" in line for line in lock.read_text().splitlines())
    seen: set[str] = set()

    def on_line(line: str) -> None:
        if line.startswith(COUNTED):
            seen.add(line)
            work.steps.count(min(len(seen), total), total)
        if line.startswith(INSTALLING):
            write_stamp(work.home.stamp, stamp_of(work).starting(part))

    with work.steps.step(f"{title} ({total})"):
        command = [str(work.home.python), *PIP, *INSTALL, "-r", str(lock), *words]
        work.attempt(command, step=title, on_line=on_line)


def install_llama(work: Work) -> bool:
    """Build llama.cpp for this computer, or for its processor where that fails; whether it is what was chosen."""
    flavour = choices.choose_flavour(work.facts)
    warning = choices.unused_gpu(work.facts, flavour)
    if warning is not None:
        work.steps.shout(warning)
    try:
        built = build_and_install(work.home, flavour, steps=work.steps)
    except StepError as fault:
        raise SetupError(Advice(explain(fault.tail, step="Building llama.cpp"))) from fault
    if built is flavour:
        return True
    sentence = f"The {flavour.value} build of llama.cpp failed, so your {work.facts.gpu.value} is left unused and the"
    sentence += f" processor serves instead; the reason is in {work.home.log}. To try again"
    work.steps.shout(Advice(sentence, "./starling setup"))
    return False


def install_torch(work: Work) -> bool:
    """Install torch, its size said first; whether it is there now."""
    title = f"Installing torch, {choices.torch_size(work.facts)}"
    try:
        install_lock(work, Part.TORCH, title=title, words=torch_words(work.facts))
    except SetupError as fault:
        if work.wish.needs_torch:
            raise
        rest = "Going on without torch: Starling still benchmarks and serves. To try again"
        work.steps.shout(Advice(f"{fault.advice.sentence}. {rest}", "./starling setup --with-torch"))
        return False
    return True
