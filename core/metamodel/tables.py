"""Reads a CSV table of figures or hardware whatever its cells hold: a blank stays a blank, a broken file is one error.

Never guesses: what a cell does not say is None here, and filled in by those who know what is usual.
"""

from __future__ import annotations

import csv
from pathlib import Path

Row = dict[str, str]
# No size, speed, count or rate of these tables is beyond this in its unit: such a cell is as good as blank.
_MOST, _LEAST = 1e9, 1e-6


def rows(path: Path, needed: tuple[str, ...]) -> list[Row]:
    """The table's rows; a missing column or cell reads as "". Raises ValueError, with what is wrong in words."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            lacking = [name for name in needed if name not in (table.fieldnames or ())]
            if lacking:
                raise ValueError(f"{path} is not such a table: it has no column {', '.join(lacking)}.")
            return [_Cells({k: v for k, v in row.items() if k and isinstance(v, str)}) for row in table]
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV table: {error}.") from error


def number(cell: str) -> float | None:
    """A number that some quantity of ours may have, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if abs(value) <= _MOST else None


def positive(cell: str) -> float | None:
    """Such a number that is above zero, or None."""
    value = number(cell)
    return value if value is not None and value >= _LEAST else None


class _Cells(dict[str, str]):
    """A row in which an absent cell is a blank one."""

    def __missing__(self, key: str) -> str:
        return ""
