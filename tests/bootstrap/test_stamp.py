"""Laws of when an environment is as it should be, must be added to, or must be made anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from installing.stamp import Outstanding, Part, Stamp, fingerprint, outstanding, read_stamp, write_stamp

PYTHON = "3.11.7"
WANTED = {Part.BASE: "b1", Part.LLAMA: "l1"}
READY = Stamp(PYTHON, {"base": "b1", "llama": "l1"})


def test_an_unchanged_environment_has_nothing_outstanding() -> None:
    assert outstanding(READY, WANTED, python=PYTHON).is_nothing


def test_a_changed_lock_file_renews_only_its_part() -> None:
    left = outstanding(READY, {**WANTED, Part.LLAMA: "l2"}, python=PYTHON)
    assert left == Outstanding(False, (Part.LLAMA,))


def test_a_part_asked_for_later_is_added() -> None:
    assert outstanding(READY, {**WANTED, Part.DEV: "d1"}, python=PYTHON) == Outstanding(False, (Part.DEV,))


def test_a_part_that_nobody_asks_for_now_stays() -> None:
    assert outstanding(READY.holding(Part.TORCH, "t1"), WANTED, python=PYTHON).is_nothing


@pytest.mark.parametrize("stamp", [None, READY.starting(Part.TORCH), Stamp("3.12.1", READY.parts)])
def test_a_half_made_environment_or_one_of_another_python_is_made_anew(stamp: Stamp | None) -> None:
    assert outstanding(stamp, WANTED, python=PYTHON) == Outstanding(True, (Part.BASE, Part.LLAMA))


def test_a_part_that_is_there_is_no_longer_under_way() -> None:
    assert READY.starting(Part.DEV).holding(Part.DEV, "d1").under_way == ""


def test_a_stamp_survives_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "stamp.json"
    write_stamp(path, READY.starting(Part.DEV))
    assert read_stamp(path) == READY.starting(Part.DEV)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"python": "3.11.7"}', '{"python": 1, "parts": 3, "under_way": ""}'])
def test_a_stamp_that_cannot_be_read_is_no_stamp(tmp_path: Path, text: str) -> None:
    path = tmp_path / "stamp.json"
    path.write_text(text)
    assert read_stamp(path) is None


def test_no_file_is_no_stamp(tmp_path: Path) -> None:
    assert read_stamp(tmp_path / "none") is None


def test_fingerprints_tell_apart_what_joins_to_the_same_text() -> None:
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint("ab", "c") == fingerprint("ab", "c")
