"""Keep what people write in a conversation from being read as the marks between its turns.

Pure. A model's template writes marks such as <|im_start|>; the same letters in a message must stay letters. Messages
without such letters pass unchanged, to the last token. Never changes a letter that the model reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from core.job import ChatMessage

# Unicode's noncharacters: no text of any language has them.
CUTS = tuple(chr(code) for code in range(0xFDD0, 0xFDF0))


class TurnMarks:
    """The marks of one model, as they are written. One letter alone is no mark: it could not be cut."""

    def __init__(self, texts: Iterable[str]) -> None:
        marks = sorted({t for t in texts if len(t) > 1}, key=len, reverse=True)
        self._marks = re.compile(r"(?=(?:" + "|".join(map(re.escape, marks)) + "))") if marks else None

    def cut(self, messages: Sequence[ChatMessage]) -> tuple[Sequence[ChatMessage], str | None]:
        """The messages with a cut behind the first letter of every mark in them, and the cut's letter; None when there
        is nothing to cut. The rendered text, split at that letter and read part by part, has no mark of theirs."""
        marks = self._marks
        if marks is None or not any(marks.search(m.content) for m in messages):
            return messages, None
        whole = "".join(m.content for m in messages)
        cut = next((letter for letter in CUTS if letter not in whole), None)
        if cut is None:
            plain = [msgspec.structs.replace(m, content=_without_cuts(m.content)) for m in messages]
            return self.cut(plain)
        return [msgspec.structs.replace(m, content=_insert(marks, m.content, cut=cut)) for m in messages], cut


def _insert(marks: re.Pattern[str], text: str, *, cut: str) -> str:
    at = [found.start() + 1 for found in marks.finditer(text)]
    edges = zip([0, *at], [*at, len(text)], strict=True)
    return cut.join(text[a:b] for a, b in edges)


def _without_cuts(text: str) -> str:
    return text.translate(dict.fromkeys(map(ord, CUTS)))
