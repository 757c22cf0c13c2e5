"""Hear how far transformers is with a model, instead of having it draw bars.

Never writes to a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Tell = Callable[[float], None]


@contextmanager
def told_progress(tell: Tell) -> Iterator[None]:
    """While inside, each of transformers' loops tells its fraction, 0 to 1."""
    from transformers.utils import logging

    previous = logging.set_tqdm_hook(lambda _make, words, named: _Told(tell, *words, **named))
    try:
        yield
    finally:
        logging.set_tqdm_hook(previous)


class _Told:
    """Stands in for the progress bar."""

    def __init__(self, tell: Tell, iterable: Any = None, **named: Any) -> None:
        self._tell = tell
        self._iterable = iterable
        self._total = named.get("total") or (len(iterable) if hasattr(iterable, "__len__") else 0)

    def __iter__(self) -> Iterator[Any]:
        for number, part in enumerate(self._iterable or ()):
            yield part
            if self._total:
                self._tell((number + 1) / self._total)

    def __enter__(self) -> _Told:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        """A bar's other methods draw; here they do nothing."""
        return lambda *_words, **_named: None
