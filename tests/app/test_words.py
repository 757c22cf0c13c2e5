"""The command line takes only words that make sense, and says at once when no engine runs."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from app.__main__ import main, port
from app.cli import minutes
from app.lockfile import EngineLock, is_home_locked
from core.home import Home


@pytest.mark.parametrize("text", ["0", "-5", "abc", "nan", "inf", "1e9"])
def test_a_pause_lasts_some_minutes_of_a_year(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        minutes(text)


@pytest.mark.parametrize("text", ["-1", "65536", "x", "1.5"])
def test_a_port_is_a_port(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        port(text)


def test_a_home_is_locked_while_its_engine_lives(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert not is_home_locked(home)
    with EngineLock(home):
        assert is_home_locked(home)
    assert not is_home_locked(home)


def test_without_an_engine_a_word_fails_with_the_line_that_starts_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--home", str(tmp_path)]) == 1
    assert "Start it with `starling`" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--json"], ["--headless", "--json"], ["--jobs", "3"], ["--headless", "--jobs=-1"]])
def test_a_demo_of_no_jobs_has_no_object_to_print(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *words]) == 2
    assert "--jobs N" in capsys.readouterr().err
