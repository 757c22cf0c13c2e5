"""Laws of two set-ups at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from installing.setup_lock import StillHeldError, only_one


def test_a_second_set_up_waits_and_names_the_first(tmp_path: Path) -> None:
    said: list[str] = []
    with only_one(tmp_path, said.append):
        assert said == []
        with pytest.raises(StillHeldError), only_one(tmp_path, said.append, patience_s=0.0):
            pass
    assert len(said) == 1
    assert "process" in said[0]


def test_a_lock_is_free_after_its_set_up_however_it_ends(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(ValueError, match="broken"), only_one(tmp_path, said.append):
        raise ValueError("broken")
    with only_one(tmp_path, said.append):
        pass
    assert said == []


def test_a_file_left_by_a_dead_set_up_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "owner").write_text("12345")
    said: list[str] = []
    with only_one(tmp_path, said.append):
        pass
    assert said == []
