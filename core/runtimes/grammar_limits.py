"""What a stranger's grammar or schema may look like before anything is made of it.

Pure. Bounds size, nesting, repetition and references; what it lets through, core.runtimes.grammar bounds again by work.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_GRAMMAR_BYTES = 64 << 10
MAX_DEPTH = 32
MAX_SCHEMA_NODES = 4_000
MAX_GBNF_RULES = 1_000
MAX_REPEATS = 2_000
MAX_PATTERN_CHARACTERS = 1_000
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_ANY_COUNT = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*', re.S)


def schema_refusal(schema: str) -> str:
    """Why this JSON Schema is not read; empty when it is worth trying."""
    if len(schema.encode("utf-8", "replace")) > MAX_GRAMMAR_BYTES:
        return f"The JSON schema is larger than {MAX_GRAMMAR_BYTES >> 10} KiB."
    try:
        parsed = json.loads(schema)
    except (ValueError, RecursionError):
        return "The JSON schema is not valid JSON."
    if not isinstance(parsed, dict):
        return "The JSON schema must be an object."
    return _walk(parsed)


def gbnf_refusal(grammar: str) -> str:
    """Why this GBNF text is not read; empty when it is worth trying."""
    if len(grammar.encode("utf-8", "replace")) > MAX_GRAMMAR_BYTES:
        return f"The grammar is larger than {MAX_GRAMMAR_BYTES >> 10} KiB."
    if "\0" in grammar:
        return "The grammar contains a zero byte."
    bare = _QUOTED.sub(" ", grammar)
    if bare.count("::=") > MAX_GBNF_RULES:
        return f"The grammar has more than {MAX_GBNF_RULES} rules."
    if _depth(bare) > MAX_DEPTH:
        return f"The grammar is nested deeper than {MAX_DEPTH}."
    return _repeats_refusal(bare)


def _walk(schema: dict[str, Any]) -> str:
    """Over the whole schema, widest first; a list of what is left instead of recursion."""
    level: list[Any] = [schema]
    seen = 0
    for _ in range(MAX_DEPTH):
        seen += len(level)
        if seen > MAX_SCHEMA_NODES:
            return f"The JSON schema has more than {MAX_SCHEMA_NODES} parts."
        for part in level:
            if isinstance(part, dict) and (refusal := _part_refusal(part)):
                return refusal
        level = [inner for part in level for inner in _inside(part)]
        if not level:
            return ""
    return f"The JSON schema is nested deeper than {MAX_DEPTH}."


def _inside(part: Any) -> list[Any]:
    if isinstance(part, dict):
        return list(part.values())
    return part if isinstance(part, list) else []


def _part_refusal(part: dict[str, Any]) -> str:
    reference = part.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#"):
        return "The JSON schema refers to another document, which this worker does not fetch."
    if any(isinstance(part.get(key), int) and part[key] > MAX_REPEATS for key in _COUNTS):
        return f"The JSON schema asks for more than {MAX_REPEATS} repetitions."
    pattern = part.get("pattern")
    if not isinstance(pattern, str):
        return ""
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        return f"A pattern of the JSON schema is longer than {MAX_PATTERN_CHARACTERS} characters."
    return _repeats_refusal(pattern)


def _repeats_refusal(text: str) -> str:
    counts = [int(n or 0) if len(n) < 10 else MAX_REPEATS + 1 for found in _ANY_COUNT.findall(text) for n in found]
    if max(counts, default=0) > MAX_REPEATS:
        return f"The grammar asks for more than {MAX_REPEATS} repetitions."
    return ""


def _depth(bare: str) -> int:
    deepest = depth = 0
    for character in bare:
        if character == "(":
            depth += 1
            deepest = max(deepest, depth)
        elif character == ")":
            depth -= 1
    return deepest
