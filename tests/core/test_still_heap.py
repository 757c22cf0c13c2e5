"""The law of the still heap: what was there stays out of collections, what comes later does not."""

from __future__ import annotations

import gc
import weakref

from core.still_heap import keep_heap


class Ring:
    def __init__(self) -> None:
        self.me = self


def test_what_was_there_is_left_alone_and_what_comes_later_is_collected() -> None:
    try:
        keep_heap()
        assert gc.get_freeze_count() > 10_000
        later = weakref.ref(Ring())
        gc.collect()
        assert later() is None
    finally:
        gc.unfreeze()
