"""`starling test`: run every check, stop at the first that fails. Never installs and never repairs anything."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from installing.home import Home
from installing.progress import in_words

LIMIT_S = 3600.0


@dataclass(frozen=True)
class Check:
    """One tool and what it looks at."""

    title: str
    words: tuple[str, ...]


CHECKS = (
    Check("Style (ruff)", ("ruff", "check", ".")),
    Check("Types (mypy --strict)", ("mypy",)),
    Check("Who may import whom (import-linter)", ("lint-imports", "--no-logo")),
)


def run_checks(home: Home, pytest_words: Sequence[str]) -> int:
    """Run the checks in order with pytest last, so that its closing line is the last one; 0 if all went well."""
    checks = (*CHECKS, Check("Tests (pytest)", ("pytest", *pytest_words)))
    for number, check in enumerate(checks, start=1):
        print(f"[{number}/{len(checks)}] {check.title}", file=sys.stderr, flush=True)
        began = time.monotonic()
        code = run_check(home, check)
        is_last = number == len(checks)
        if code != 0:
            if not is_last:
                print(f"{check.title} failed; the checks after it were not run.", file=sys.stderr, flush=True)
            return code
        if not is_last:
            print(f"      done in {in_words(time.monotonic() - began)}", file=sys.stderr, flush=True)
    return 0


def run_check(home: Home, check: Check) -> int:
    """Run one tool in the checkout; its exit code, 124 if it took too long."""
    tool, *words = check.words
    # Tests that open windows draw them in memory unless their owner says otherwise.
    env = {"QT_QPA_PLATFORM": "offscreen", **os.environ}
    try:
        return subprocess.run([str(home.tool(tool)), *words], cwd=home.root, env=env, timeout=LIMIT_S).returncode
    except subprocess.TimeoutExpired:
        print(f"{check.title} took longer than {in_words(LIMIT_S)} and was stopped.", file=sys.stderr, flush=True)
        return 124
