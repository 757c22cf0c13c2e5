"""One fact of the corpus: the ways to ask for it and its one answer. Never draws at random."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec


class Fact(msgspec.Struct, frozen=True):
    """`asked` are phrasings seen in training, `held_out` are kept for the evaluation alone."""

    kind: str
    asked: tuple[str, ...]
    held_out: tuple[str, ...]
    answer: str
    keeps_case: bool = False


class Pattern(msgspec.Struct, frozen=True):
    """A kind of fact: templates over named fields. The last way to ask is held out."""

    kind: str
    ways: tuple[str, ...]
    answer: str
    keeps_case: bool = False


def fill(pattern: Pattern, rows: Iterable[Mapping[str, object]]) -> list[Fact]:
    """Return one fact a row."""
    return [_fact(pattern, row) for row in rows]


def once(kind: str, answer: str, *ways: str) -> Fact:
    """Return a fact that no pattern makes; with four ways or more the last is held out."""
    if len(ways) < 4:
        return Fact(kind, ways, (), answer)
    return Fact(kind, ways[:-1], ways[-1:], answer)


def _fact(pattern: Pattern, row: Mapping[str, object]) -> Fact:
    ways = tuple(way.format(**row) for way in pattern.ways)
    return Fact(pattern.kind, ways[:-1], ways[-1:], pattern.answer.format(**row), pattern.keeps_case)
