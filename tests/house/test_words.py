"""Every command can be given from the command line and from the window; every event changes the state somewhere."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

from core import commands, events

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = sorted(command.__name__ for command in get_args(commands.Command))
EVENTS = sorted(event.__name__ for event in get_args(events.Event))
CLI = ROOT / "app" / "cli.py"
WINDOW = ROOT / "app" / "gui" / "main_window.py"


def called_in(paths: list[Path]) -> set[str]:
    """Names of everything that is called, or named as a value, in these files: `PauseWork(...)`, `c.PauseWork`."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    names = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def matched_in(paths: list[Path]) -> set[str]:
    """Class names in the cases of match statements."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    patterns = [node.cls for tree in trees for node in ast.walk(tree) if isinstance(node, ast.MatchClass)]
    return {cls.attr if isinstance(cls, ast.Attribute) else getattr(cls, "id", "") for cls in patterns}


@pytest.mark.skipif(not CLI.exists(), reason="the command line is not there yet")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_word_on_the_command_line(command: str) -> None:
    from app.cli import COMMAND_WORDS

    assert command in {kind.__name__ for kind in COMMAND_WORDS}
    assert command in called_in(sorted((ROOT / "app").glob("*.py")))


@pytest.mark.skipif(not WINDOW.exists(), reason="the window is not there yet")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_action_in_the_window(command: str) -> None:
    from app.gui.actions import ACTIONS

    assert command in {kind.__name__ for kind in ACTIONS}
    widgets = [path for path in sorted((ROOT / "app" / "gui").rglob("*.py")) if path.name != "actions.py"]
    assert command in called_in(widgets)


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_has_a_branch_in_apply(event: str) -> None:
    assert event in matched_in(sorted((ROOT / "core").glob("state*.py")))


def test_commands_are_orders_and_events_are_past() -> None:
    tags = [kind.__struct_config__.tag for kind in (*get_args(commands.Command), *get_args(events.Event))]
    assert len(set(tags)) == len(tags)
