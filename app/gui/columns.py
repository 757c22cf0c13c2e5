"""Columns of a painted list: which fit, and where each begins.

Pure geometry. A column with a low rank goes first when there is no room for all.
"""

from __future__ import annotations

import msgspec


class Column(msgspec.Struct, frozen=True):
    """least is its narrowest width in pixels; share is its part of the room that is left; rank 0 never goes."""

    name: str
    least: int
    share: int = 1
    is_right: bool = False
    rank: int = 0


class Place(msgspec.Struct, frozen=True):
    """Where a column is drawn."""

    left: float
    width: float

    @property
    def right(self) -> float:
        """Its right end."""
        return self.left + self.width


def places(columns: tuple[Column, ...], *, width: float, margin: float) -> dict[str, Place]:
    """The columns that fit into width, from left to right."""
    room = width - 2 * margin
    shown = list(columns)
    while sum(column.least for column in shown) > room and any(column.rank for column in shown):
        shown.remove(max(shown, key=lambda column: column.rank))
    spare = max(0.0, room - sum(column.least for column in shown))
    shares = sum(column.share for column in shown) or 1
    found: dict[str, Place] = {}
    left = margin
    for column in shown:
        wide = column.least + spare * column.share / shares
        found[column.name] = Place(left, wide)
        left += wide
    return found
