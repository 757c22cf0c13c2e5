"""Laws of the lock files: exact, complete, each package once, as pyproject.toml asks."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([a-z0-9-]+)==([^\s;]+)( ; .+)?$")
PARTS = ("", "-llama", "-torch", "-dev")


def pins() -> list[tuple[str, str]]:
    lines = [line for part in PARTS for line in (ROOT / f"packaging/requirements{part}.lock").read_text().splitlines()]
    found = [(line, PIN.match(line)) for line in lines if not line.startswith("#")]
    assert [line for line, match in found if match is None] == []
    return [(match[1], match[2]) for _, match in found if match]


def test_every_package_is_pinned_exactly_and_once() -> None:
    names = [name for name, _ in pins()]
    assert len(names) == len(set(names))


def test_no_pin_names_a_build_of_one_machine() -> None:
    assert [pin for pin in pins() if "+" in pin[1]] == []


def test_what_the_project_pins_is_locked_as_it_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    exact = dict(line.split("==") for line in asked if "==" in line)
    locked = dict(pins())
    assert {name: locked.get(re.sub(r"[-_.]+", "-", name).lower()) for name in exact} == exact
