"""Laws of what the set-up shows, and of how it reads and runs other programs."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from installing.choices import Advice
from installing.failures import explain
from installing.progress import StepError, Steps, in_lines, in_words, parse_count, run_logged


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("  [1/193] /usr/bin/g++ -DGGML_BUILD -o x.o", (1, 193)),
        ("[193/193] Linking", (193, 193)),
        ("   [ 12/100]", (12, 100)),
        ("Collecting numpy", None),
        ("text [3/4] in the middle", None),
        ("[5/4] impossible", None),
        ("[0/4]", None),
        ("", None),
    ],
)
def test_only_ninjas_own_count_at_the_start_of_a_line_is_progress(line: str, count: tuple[int, int] | None) -> None:
    assert parse_count(line) == count


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "0 s"), (59, "59 s"), (65, "1 min 05 s"), (3600, "60 min 00 s")])
def test_times_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_steps_are_numbered_and_end_with_their_time() -> None:
    screen, times = io.StringIO(), iter([0.0, 4.0, 10.0, 75.0])
    steps = Steps(2, screen, clock=lambda: next(times))
    with steps.step("First"):
        pass
    with steps.step("Second"):
        pass
    said = screen.getvalue()
    assert said == "[1/2] First\n      done in 4 s\n[2/2] Second\n      done in 1 min 05 s\n"


def test_a_log_is_told_every_tenth_of_a_long_count() -> None:
    screen = io.StringIO()
    steps = Steps(1, screen, clock=lambda: 0.0)
    for done in range(1, 194):
        steps.count(done, 193)
    assert 9 <= screen.getvalue().count("[") <= 10


def test_a_step_that_fails_says_so_and_passes_the_failure_on() -> None:
    screen = io.StringIO()
    with pytest.raises(ValueError, match="broken"), Steps(1, screen, clock=lambda: 0.0).step("Work"):
        raise ValueError("broken")
    assert "stopped after" in screen.getvalue()


def test_an_advice_is_one_sentence_and_its_line() -> None:
    assert in_lines(Advice("Do this", "make it")) == "Do this.\n    make it\n"
    assert in_lines(Advice("Nothing to type")) == "Nothing to type.\n"


def test_a_command_is_heard_line_by_line_and_kept_in_the_log(tmp_path: Path) -> None:
    heard: list[str] = []
    log = tmp_path / "log"
    run_logged([sys.executable, "-c", "print('one'); print('two')"], log, on_line=heard.append)
    assert heard == ["one\n", "two\n"]
    assert "one\ntwo\n" in log.read_text()


def test_a_failed_command_brings_the_end_of_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(StepError) as fault:
        run_logged([sys.executable, "-c", "print('why'); raise SystemExit(3)"], tmp_path / "log")
    assert fault.value.tail == "why\n"


def test_a_command_past_its_deadline_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(StepError):
        run_logged([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", limit_s=0.2)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to kill")
def test_what_a_stopped_command_started_ends_with_it(tmp_path: Path) -> None:
    grandchild = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    with pytest.raises(StepError):
        run_logged([sys.executable, "-c", grandchild], tmp_path / "log", limit_s=0.5)


def test_a_program_that_is_not_there_is_a_failure_too(tmp_path: Path) -> None:
    with pytest.raises(StepError):
        run_logged([str(tmp_path / "nothing")], tmp_path / "log")


@pytest.mark.parametrize(
    ("tail", "start"),
    [
        ("OSError: [Errno 28] No space left on device", "The disk is full"),
        ("ERROR: No matching distribution (from versions: none)", "The package index cannot be reached"),
        ("NewConnectionError: Temporary failure in name resolution", "The package index cannot be reached"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "The computer ran out of memory"),
        ("error: expected ';'", "Building did not work"),
    ],
)
def test_a_known_cause_is_named_and_an_unknown_one_is_not_guessed(tail: str, start: str) -> None:
    assert explain(tail, step="Building").startswith(start)
