"""What stands in the way, in one sentence for the owner, and whether trying again can help.

Pure. Never hides an error that it does not know: those are raised again.
"""

from __future__ import annotations

from typing import TypeVar

Failure = TypeVar("Failure", bound=BaseException)


class Trouble(Exception):
    """One clear sentence. is_final: trying again does not help until the owner changes something."""

    def __init__(self, sentence: str, *, is_final: bool = False) -> None:
        super().__init__(sentence)
        self.is_final = is_final


def trouble_of(error: BaseException, *, known: tuple[type[Exception], ...]) -> Trouble:
    """The trouble behind an error, however deep in groups it lies: an error of a known type is final, its text the
    sentence. Raises the error again when it is not known."""
    first = innermost(error)
    if isinstance(first, Trouble):
        return first
    if isinstance(first, known):
        return Trouble(str(first), is_final=True)
    raise error


def innermost(error: BaseException) -> BaseException:
    """The error itself, or the first that its group holds."""
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error


def first_of(group: BaseExceptionGroup[Failure]) -> Failure:
    """The first error in a group, however deep."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first
