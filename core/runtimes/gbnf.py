"""Read llama.cpp's grammar notation (GBNF, its grammars/README.md) and write it as llguidance's Lark.

Pure. Letter by letter, so that the language stays the same: a Lark terminal of several letters would swallow what the
next GBNF rule is to have. Never recurses deeper than MAX_DEPTH, and never writes a rule by its own name.
"""

from __future__ import annotations

import re

import msgspec

MAX_DEPTH = 32
MAX_REPEATS = 2_000
MAX_SYMBOLS = 20_000
MAX_RULES = 4_000
MAX_ALTERNATIVES = 1_000
HIGHEST = 0x10FFFF
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_ANY_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME = re.compile(r"[a-zA-Z0-9-]+")
_DEFINES = re.compile(r"([a-zA-Z0-9-]+)(?:[ \t]|#[^\r\n]*)*::=")
_COUNT = re.compile(r"\{\s*(\d{1,9})\s*(?:(,)\s*(\d{1,9})?\s*)?\}")
_ESCAPE = re.compile(r'\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([trn\\"\[\]-]))')
_PLAIN_ESCAPES = {"t": "\t", "r": "\r", "n": "\n"}


class GbnfRefused(Exception):
    """The text is no grammar, or too large a one; the message is a sentence for whoever wrote it."""


class _Part(msgspec.Struct, frozen=True):
    """A piece of Lark and how many symbols it stands for once its repetitions are written out."""

    lark: str
    symbols: int


def gbnf_to_lark(grammar: str) -> str:
    """The same language in Lark. Raises GbnfRefused."""
    return _Reader(grammar).read()


class _Reader:
    """Goes once over the text; at is where it stands."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._numbers: dict[str, int] = {}
        self._rules: dict[int, str] = {}
        self._symbols = 0

    def read(self) -> str:
        self._skip(_ANY_SPACE)
        while self._at < len(self._text):
            self._rule()
        root = self._numbers.get("root")
        if root is None or root not in self._rules:
            raise GbnfRefused('The grammar has no rule "root".')
        if len(self._rules) < len(self._numbers):
            raise GbnfRefused("The grammar uses a rule that it does not define.")
        rules = "".join(f"r{number}: {lark}\n" for number, lark in self._rules.items())
        return f"%llguidance {{}}\nstart: r{root}\n{rules}"

    def _rule(self) -> None:
        defined = _DEFINES.match(self._text, self._at)
        if defined is None:
            raise self._unreadable()
        self._at = defined.end()
        self._skip(_ANY_SPACE)
        body = self._alternatives(is_nested=False)
        if self._at < len(self._text) and self._text[self._at] not in "\r\n":
            raise self._unreadable()
        self._rules[self._number(defined[1])] = body.lark
        self._symbols += body.symbols
        if self._symbols > MAX_SYMBOLS or len(self._numbers) > MAX_RULES:
            raise GbnfRefused("The grammar is too large with its repetitions written out.")
        self._skip(_ANY_SPACE)

    def _alternatives(self, *, is_nested: bool) -> _Part:
        parts = [self._sequence(is_nested=is_nested)]
        while self._peek() == "|":
            self._at += 1
            self._skip(_ANY_SPACE)
            parts.append(self._sequence(is_nested=is_nested))
            if len(parts) > MAX_ALTERNATIVES:
                raise GbnfRefused(f"The grammar has a choice of more than {MAX_ALTERNATIVES}.")
        return _Part(" | ".join(p.lark for p in parts), sum(p.symbols for p in parts))

    def _sequence(self, *, is_nested: bool) -> _Part:
        parts: list[_Part] = []
        space = _ANY_SPACE if is_nested else _SPACE
        while (part := self._item()) is not None:
            self._skip(space)
            while (times := self._times()) is not None:
                part = self._hoisted(_repeated(part, times))
                self._skip(space)
            parts.append(part)
        return _Part(" ".join(p.lark for p in parts) or '""', sum(p.symbols for p in parts) + 1)

    def _item(self) -> _Part | None:
        match self._peek():
            case '"':
                return self._literal()
            case "[":
                return self._letter_class()
            case "(":
                return self._group()
            case ".":
                self._at += 1
                return _Part(rf"/[\x{{0}}-\x{{{HIGHEST:x}}}]/", 1)
            case "<" | "!":
                raise GbnfRefused("The grammar names tokens; this worker's grammars name letters only.")
        name = _NAME.match(self._text, self._at)
        if name is None:
            return None
        self._at = name.end()
        return _Part(f"r{self._number(name[0])}", 1)

    def _group(self) -> _Part:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise GbnfRefused(f"The grammar is nested deeper than {MAX_DEPTH}.")
        self._at += 1
        self._skip(_ANY_SPACE)
        inner = self._alternatives(is_nested=True)
        if self._peek() != ")":
            raise self._unreadable()
        self._at += 1
        self._depth -= 1
        return self._hoisted(inner)

    def _literal(self) -> _Part:
        self._at += 1
        letters = []
        while self._peek() != '"':
            letters.append(f"/{_written(self._letter())}/")
        self._at += 1
        return _Part(f"({' '.join(letters)})" if letters else '""', len(letters) + 1)

    def _letter_class(self) -> _Part:
        self._at += 1
        is_inverse = self._peek() == "^"
        self._at += is_inverse
        ranges = []
        while self._peek() != "]":
            first = last = self._letter()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                last = self._letter()
            if first > last:
                raise GbnfRefused("The grammar has a range of letters that is empty.")
            ranges.append(f"{_written(first)}-{_written(last)}")
        self._at += 1
        if not ranges:
            raise GbnfRefused("The grammar has a class without letters.")
        return _Part(f"/[{'^' if is_inverse else ''}{''.join(ranges)}]/", 1)

    def _letter(self) -> int:
        letter = self._peek()
        if letter == "\\":
            escape = _ESCAPE.match(self._text, self._at)
            if escape is None:
                raise self._unreadable()
            self._at = escape.end()
            code = int(escape[1] or escape[2] or escape[3] or "0", 16)
            code = code if escape[4] is None else ord(_PLAIN_ESCAPES.get(escape[4], escape[4]))
        elif letter:
            self._at += 1
            code = ord(letter)
        else:
            raise self._unreadable()
        if code > HIGHEST or 0xD800 <= code < 0xE000:
            raise GbnfRefused("The grammar names a letter that does not exist.")
        return code

    def _times(self) -> tuple[int, int | None] | None:
        match self._peek():
            case "*":
                self._at += 1
                return 0, None
            case "+":
                self._at += 1
                return 1, None
            case "?":
                self._at += 1
                return 0, 1
            case "{":
                return self._counted()
        return None

    def _counted(self) -> tuple[int, int | None]:
        found = _COUNT.match(self._text, self._at)
        if found is None:
            raise self._unreadable()
        self._at = found.end()
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
        if max(least, most or 0) > MAX_REPEATS:
            raise GbnfRefused(f"The grammar asks for more than {MAX_REPEATS} repetitions.")
        if most is not None and most < least:
            raise GbnfRefused("The grammar asks for fewer repetitions at most than at least.")
        return least, most

    def _hoisted(self, part: _Part) -> _Part:
        """As a rule of its own: Lark's own nesting is shallow. No GBNF name has a space."""
        number = self._number(f"group {len(self._numbers)}")
        self._rules[number] = part.lark
        return _Part(f"r{number}", part.symbols + 1)

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, space: re.Pattern[str]) -> None:
        found = space.match(self._text, self._at)
        self._at = found.end() if found is not None else self._at

    def _unreadable(self) -> GbnfRefused:
        line = self._text.count("\n", 0, self._at) + 1
        return GbnfRefused(f"The grammar cannot be read at its line {line}.")


def _repeated(part: _Part, times: tuple[int, int | None]) -> _Part:
    least, most = times
    symbols = part.symbols * max(least, most or 0, 1) + 1
    if symbols > MAX_SYMBOLS:
        raise GbnfRefused("The grammar is too large with its repetitions written out.")
    if most == 0:
        return _Part('""', 1)
    written = f"{{{least},{'' if most is None else most}}}"
    return _Part(f"{part.lark}{written}", symbols)


def _written(code: int) -> str:
    return rf"\x{{{code:x}}}"
