"""Turn the bytes of tokens into text that may be shown: whole characters only, and nothing of a stop string.

Pure. Never emits half a character, and never text that may yet turn out to begin a stop string.
"""

from __future__ import annotations

import codecs


class TextStream:
    """The text of one sequence. feed gives what is safe to show; after is_stopped nothing more comes."""

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self._stop = tuple(s for s in stop if s)
        self._firsts = frozenset(s[0] for s in self._stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.is_stopped = False

    def feed(self, piece: bytes) -> str:
        """Text that these bytes complete; empty while a character or a possible stop string is unfinished."""
        if self.is_stopped:
            return ""
        text = self._held + self._decoder.decode(piece)
        if self._firsts.isdisjoint(text):
            return text
        at = _first_stop(text, self._stop)
        if at is not None:
            self.is_stopped = True
            self._held = ""
            return text[:at]
        keep = _possible_start(text, self._stop)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back when no more tokens come; an unfinished character is dropped."""
        held, self._held = self._held, ""
        return held


def _first_stop(text: str, stop: tuple[str, ...]) -> int | None:
    found = [at for s in stop if (at := text.find(s)) >= 0]
    return min(found, default=None)


def _possible_start(text: str, stop: tuple[str, ...]) -> int:
    """How many characters at the end of text could be the beginning of a stop string."""
    longest = min(len(text), max(len(s) for s in stop) - 1)
    for length in range(longest, 0, -1):
        if any(s.startswith(text[-length:]) for s in stop):
            return length
    return 0
