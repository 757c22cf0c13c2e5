"""Jinja for templates that strangers wrote: what they may call, how much they may compute, how large a value may grow.

Built on Jinja's immutable sandbox, which keeps them from everything that is not theirs. That has no bound of work or
size: here every step of a running template is counted, and what could grow in one step is checked before it is done.
Never lets a template's program run on after its bound, and keeps nothing between two runs.
"""

from __future__ import annotations

import json
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_STEPS = 1_000_000
MAX_SECONDS = 2.0
MAX_VALUE_CHARACTERS = 4 << 20
MAX_ITEMS = 100_000
MAX_BITS = 4096
MAX_INDENT = 16
MAX_DIGITS = 15
MAX_DEPTH = 24
MAX_FRAMES = 600
_PLAIN_FORMAT = re.compile(r"(?:[^%]|%[sdi%])*", re.S)
_PLAIN_FIELDS = re.compile(r"(?:[^{}]|\{\w*\}|\{\{|\}\})*", re.S)
TEXT_METHODS = frozenset(
    {
        "strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "partition", "rpartition", "removeprefix",
        "removesuffix", "startswith", "endswith", "upper", "lower", "title", "capitalize", "swapcase", "casefold",
        "find", "rfind", "index", "rindex", "count", "isdigit", "isdecimal", "isnumeric", "isalpha", "isalnum",
        "isspace", "isupper", "islower", "istitle", "isascii", "isidentifier", "replace", "join", "format"
    }
)
FILTERS = frozenset(
    {
        "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "forceescape",
        "groupby", "int", "items", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr",
        "reverse", "safe", "select", "selectattr", "slice", "sort", "sum", "title", "trim", "unique", "upper", "attr"
    }
)
GLOBALS = frozenset({"range", "dict", "namespace", "cycler", "joiner"})


class TooMuch(Exception):
    """The template computes more than any honest one does."""


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """The environment that templates are compiled in. bounded() must surround each run."""

    intercepted_binops = frozenset({"+", "*", "**", "%", "//", "/", "-"})

    def __init__(self) -> None:
        known = [loopcontrols, _GenerationMark]
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=known, finalize=_weighed)
        self.filters = {name: made for name, made in self.filters.items() if name in FILTERS}
        self.filters |= {"tojson": to_json, "join": _join, "replace": _replace, "indent": _indent, "string": _text}
        self.filters |= {"round": _round, "weighed": _weighed}
        self.globals = {name: made for name, made in self.globals.items() if name in GLOBALS}

    def _parse(self, *source_and_names: Any) -> nodes.Template:
        """What Jinja has no hook for goes through filters of ours: ~ and the writing of lists and dictionaries."""
        parsed = _Checked().visit(super()._parse(*source_and_names))
        assert isinstance(parsed, nodes.Template)
        return parsed

    def call_binop(self, context: Any, operator: str, *operands: Any) -> Any:
        """Arithmetic on small numbers, and joining and repeating what stays small."""
        _check_operands(*operands, operator=operator)
        return _weighed(super().call_binop(context, operator, *operands))

    def call(self, context: Any, /, called: Any, *args: Any, **kwargs: Any) -> Any:
        """Methods of texts that cannot grow them, and those of ours that check."""
        owner, name = getattr(called, "__self__", None), getattr(called, "__name__", "")
        if not isinstance(owner, str):
            return super().call(context, called, *args, **kwargs)
        if name not in TEXT_METHODS:
            raise SecurityError(f"A template may not call {name} of a text.")
        if name == "join":
            return _join(args[0], owner)
        if name == "replace":
            return _replace(owner, *args)
        if name == "format":
            return _format(owner, *args, **kwargs)
        return super().call(context, called, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> None:
        """str.format is a language of its own, with widths and attributes: call lets through what has neither."""


@contextmanager
def bounded() -> Iterator[None]:
    """Count every line that runs inside, in whichever Python code; TooMuch after MAX_STEPS of them or MAX_SECONDS."""
    steps, until = 0, time.perf_counter() + MAX_SECONDS

    def trace(*_frame_and_event: object) -> Callable[..., Any]:
        nonlocal steps
        steps += 1
        if steps > MAX_STEPS or time.perf_counter() > until:
            raise TooMuch("The template runs too long.")
        return trace

    before = sys.gettrace()
    with shallow():
        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(before)


@contextmanager
def shallow() -> Iterator[None]:
    """RecursionError after MAX_FRAMES more calls: those of a template use the C stack too, which Python does not watch,
    and a process that has raised its limit of recursion would die of it."""
    limit = sys.getrecursionlimit()
    depth = sum(1 for _ in traceback.walk_stack(None))
    sys.setrecursionlimit(min(limit, depth + MAX_FRAMES))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def to_json(value: Any, indent: int | None = None, **_options: object) -> str:
    """As transformers' templates expect it: plain JSON, not Jinja's own escaped for HTML."""
    _weigh(value)
    return json.dumps(value, ensure_ascii=False, indent=None if indent is None else min(int(indent), MAX_INDENT))


class _GenerationMark(Extension):
    """transformers' mark around what a model says, for training: its inside alone counts here."""

    tags = {"generation"}  # noqa: RUF012  Jinja's own way

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Checked(NodeTransformer):
    """Jinja calls its methods by the names of nodes. Constants need no check."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "join")

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return node if all(isinstance(item, nodes.Const) for item in node.items) else _filtered(node, "weighed")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        is_plain = node.ctx != "load" or all(isinstance(item, nodes.Const) for item in node.items)
        return node if is_plain else _filtered(node, "weighed")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "weighed")


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _check_operands(left: Any, right: Any, *, operator: str) -> None:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, str | list | tuple):
            _check_sequence(one, other, operator=operator)
        elif isinstance(one, int) and one.bit_length() > MAX_BITS:
            raise TooMuch("A number of the template is too large.")
    if operator == "**" and not (isinstance(right, int | float) and abs(right) <= MAX_ITEMS and abs(left) <= 1 << 16):
        raise TooMuch("A number of the template is too large.")
    if operator == "**" and isinstance(left, int) and left.bit_length() * abs(right) > MAX_BITS:
        raise TooMuch("A number of the template is too large.")


def _check_sequence(sequence: str | list[Any] | tuple[Any, ...], other: Any, *, operator: str) -> None:
    """Text % values is the old way to format: without widths, which may be of any size."""
    if operator == "%" and isinstance(sequence, str):
        values = other if isinstance(other, tuple) else (other,)
        if not _PLAIN_FORMAT.fullmatch(sequence) or sum(len(_text(value)) for value in values) > MAX_VALUE_CHARACTERS:
            raise SecurityError("A template may format with %s and %d alone.")
    most = MAX_VALUE_CHARACTERS if isinstance(sequence, str) else MAX_ITEMS
    size = len(sequence)
    if operator == "*" and isinstance(other, int):
        size *= max(other, 0)
    elif operator == "+" and isinstance(other, str | list | tuple):
        size += len(other)
    if size > most:
        raise TooMuch("A value of the template is too large.")


def _weigh(value: Any) -> None:
    """A list that holds another twice, and so on, is small in memory and endless when written."""
    level, seen = [value], 0
    for _ in range(MAX_DEPTH):
        for one in level:
            seen += len(one) if isinstance(one, str) else 1
        if seen > MAX_VALUE_CHARACTERS or len(level) > MAX_ITEMS:
            raise TooMuch("A value of the template is too large.")
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return
    raise TooMuch("A value of the template is nested too deep.")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list | tuple | set) else ()


def _weighed(value: Any) -> Any:
    if isinstance(value, list | tuple | dict | set):
        _weigh(value)
    return value


def _text(value: Any) -> str:
    _weigh(value)
    return str(value)


def _join(values: Iterable[Any], between: str = "", *attributes: str, attribute: str | None = None) -> str:
    attribute = attributes[0] if attributes else attribute
    pieces, size = [], 0
    for value in values:
        piece = _text(value if attribute is None else _attribute(value, attribute))
        size += len(piece) + len(between)
        if size > MAX_VALUE_CHARACTERS:
            raise TooMuch("A text of the template is too long.")
        pieces.append(piece)
    return between.join(pieces)


def _attribute(value: Any, name: str) -> Any:
    return value.get(name, "") if isinstance(value, dict) else ""


def _replace(text: str, *change: Any, count: int = -1) -> str:
    text, old, new = _text(text), _text(change[0]), _text(change[1])
    count = change[2] if len(change) > 2 and change[2] is not None else count
    times = text.count(old) if count < 0 else min(text.count(old), count)
    if len(text) + times * max(0, len(new) - len(old)) > MAX_VALUE_CHARACTERS:
        raise TooMuch("A text of the template is too long.")
    return text.replace(old, new, count)


def _format(text: str, *values: Any, **named: Any) -> str:
    if not _PLAIN_FIELDS.fullmatch(text):
        raise SecurityError("A template may format with plain {} alone.")
    texts, names = [_text(value) for value in values], {name: _text(value) for name, value in named.items()}
    longest = max(map(len, [*texts, *names.values()]), default=0)
    if len(text) + text.count("{") * longest > MAX_VALUE_CHARACTERS:
        raise TooMuch("A text of the template is too long.")
    return text.format(*texts, **names)


def _round(value: float, precision: int = 0, *methods: Any, method: Any = "common") -> float:
    if abs(precision) > MAX_DIGITS:
        raise TooMuch("A template may round to 15 digits.")
    return jinja2.filters.do_round(value, precision, methods[0] if methods else method)


def _indent(text: str, width: int | str = 4, *where: bool, first: bool = False, blank: bool = False) -> str:
    margin = width if isinstance(width, str) else " " * min(width, MAX_INDENT)
    if len(margin) > MAX_INDENT:
        raise TooMuch("A template may indent by 16 letters.")
    first, blank = (*where, first, blank)[:2] if len(where) != 1 else (where[0], blank)
    return str(jinja2.filters.do_indent(text, margin, first, blank))
