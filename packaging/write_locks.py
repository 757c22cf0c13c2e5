"""Write the lock files from an environment in which everything already fits together.

Run it with that environment's Python: `.venv/bin/python packaging/write_locks.py`. It walks from the requirements of
pyproject.toml and pins what it meets. It never resolves anything itself and never touches the network.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "packaging"
LLAMA = "llama-cpp-python"
# What only other systems need cannot be met by walking a Linux environment.
ELSEWHERE = ('colorama==0.4.6 ; sys_platform == "win32"', 'pywin32==312 ; sys_platform == "win32"')
PLATFORM_MARKERS = ("sys_platform", "platform_system", "platform_machine")
TITLE = "# Exact versions, written by packaging/write_locks.py: change pyproject.toml, then run that again.\n"


def main() -> None:
    """Write the four lock files: base, llama, torch and dev; what an earlier one pins, a later one leaves out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    base = closure(project["dependencies"])
    llama = {name: line for name, line in base.items() if name == LLAMA}
    torch = without(closure(extras["torch"]), base)
    dev = without(closure(extras["dev"]), base | torch)
    write("requirements.lock", without(base, llama), more=ELSEWHERE)
    write("requirements-llama.lock", llama)
    write("requirements-torch.lock", torch)
    write("requirements-dev.lock", dev)


def closure(direct: Iterable[str]) -> dict[str, str]:
    """Pin every distribution reachable from these requirements, by canonical name."""
    pins: dict[str, str] = {}
    waiting = [Requirement(text) for text in direct]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        pin = pin_of(wanted)
        if name in pins and len(pins[name]) <= len(pin):
            continue
        pins[name] = pin
        waiting.extend(needs_of(wanted))
    return pins


def pin_of(wanted: Requirement) -> str:
    """`name==version`, without a local suffix, with the marker that says where it is wanted."""
    version = distribution(wanted.name).version.partition("+")[0]
    condition = str(wanted.marker or "")
    marker = f" ; {condition}" if any(word in condition for word in PLATFORM_MARKERS) else ""
    return f"{canonicalize_name(wanted.name)}=={version}{marker}"


def needs_of(wanted: Requirement) -> list[Requirement]:
    """What an installed distribution asks for here, with the extras that were asked of it."""
    needs = [Requirement(text) for text in distribution(wanted.name).requires or []]
    extras = list(wanted.extras) or [""]
    return [need for need in needs if any(applies(need, extra) for extra in extras)]


def applies(need: Requirement, extra: str) -> bool:
    """Whether a requirement counts in this environment, for one extra ("" for none)."""
    if need.marker is not None and not need.marker.evaluate({"extra": extra}):
        return False
    try:
        distribution(need.name)
    except PackageNotFoundError as missing:
        raise SystemExit(f"{need.name} is asked for but not installed here.") from missing
    return True


def without(pins: dict[str, str], taken: dict[str, str]) -> dict[str, str]:
    """The pins that are not taken already."""
    return {name: line for name, line in pins.items() if name not in taken}


def write(name: str, pins: dict[str, str], *, more: Iterable[str] = ()) -> None:
    """Write one lock file, sorted."""
    (FOLDER / name).write_text(TITLE + "".join(f"{line}\n" for line in sorted([*pins.values(), *more])))


if __name__ == "__main__":
    main()
