"""Laws of which words open a window."""

from __future__ import annotations

import pytest
from installing.start import opens_window


@pytest.mark.parametrize("line", ["", "--join --port 0", "demo", "demo --home x", "--home x", "--home x demo"])
def test_the_bare_command_and_the_demo_open_a_window(line: str) -> None:
    assert opens_window(line.split())


@pytest.mark.parametrize("line", ["--headless", "demo --headless --json", "--home x status", "--help", "ask m p"])
def test_every_other_word_needs_no_display(line: str) -> None:
    assert not opens_window(line.split())
