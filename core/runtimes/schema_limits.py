"""What a stranger's JSON Schema may look like before anything is made of it.

Pure. Bounds size, nesting, repetition and references, and refuses what would have patterns or alternatives multiplied
with each other: whether two patterns have a common word can take longer than anyone lives. What it lets through,
core.runtimes.grammar bounds again by work.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_SCHEMA_BYTES = 64 << 10
MAX_DEPTH = 32
MAX_SCHEMA_NODES = 4_000
MAX_REPEATS = 2_000
MAX_PATTERN_CHARACTERS = 1_000
MAX_MULTIPLE_DIGITS = 3
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_ANY_COUNT = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")
_PATTERNS = frozenset({"pattern", "format", "multipleOf"})
_LENGTHS = frozenset({"minLength", "maxLength"})
_CHOICES = frozenset({"anyOf", "oneOf"})
_CONSTANTS = frozenset({"const", "enum", "default", "examples"})
_REMARKS = frozenset(
    {"$schema", "$id", "$defs", "definitions", "$comment", "title", "description", "default", "examples", "deprecated"}
)


def schema_refusal(schema: str) -> str:
    """Why this JSON Schema is not read; empty when it is worth trying."""
    if len(schema.encode("utf-8", "replace")) > MAX_SCHEMA_BYTES:
        return f"The JSON schema is larger than {MAX_SCHEMA_BYTES >> 10} KiB."
    try:
        parsed = json.loads(schema)
    except (ValueError, RecursionError):
        return "The JSON schema is not valid JSON."
    if not isinstance(parsed, dict):
        return "The JSON schema must be an object."
    parts: list[dict[str, Any]] = []
    if refusal := _gather(parsed, parts):
        return refusal
    refusals = (_part_refusal(part) or _product_refusal(part) for part in parts)
    return next(filter(None, refusals), "") or _merge_refusal(parts)


def closed_schema(schema: str) -> str:
    """The same schema with its objects closed: properties that it does not name are left out, as OpenAI's and
    llama.cpp's are, unless it asks for them. For a schema that was not refused."""
    parsed = json.loads(schema)
    parts: list[dict[str, Any]] = []
    _gather(parsed, parts)
    if any("allOf" in part for part in parts):
        return schema
    _close(parsed)
    return json.dumps(parsed, ensure_ascii=False)


def _close(part: Any) -> None:
    """Depth was bounded before. What is under a constant's key is no schema."""
    if isinstance(part, dict):
        named = part.get("properties")
        if isinstance(named, dict) and all(isinstance(inner, dict | bool) for inner in named.values()):
            part.setdefault("additionalProperties", False)
    inside = [v for k, v in part.items() if k not in _CONSTANTS] if isinstance(part, dict) else _inside(part)
    for inner in inside:
        _close(inner)


def _gather(schema: dict[str, Any], parts: list[dict[str, Any]]) -> str:
    """Every object of the schema into parts, widest first: a list of what is left instead of recursion."""
    level: list[Any] = [schema]
    seen = 0
    for _ in range(MAX_DEPTH):
        seen += len(level)
        if seen > MAX_SCHEMA_NODES:
            return f"The JSON schema has more than {MAX_SCHEMA_NODES} parts."
        parts += [part for part in level if isinstance(part, dict)]
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
    if any(isinstance(part.get(key), int | float) and not 0 <= part[key] <= MAX_REPEATS for key in _COUNTS):
        return f"The JSON schema asks for lengths beyond 0 to {MAX_REPEATS}."
    if isinstance(part.get("multipleOf"), int | float) and _digits(part["multipleOf"]) > MAX_MULTIPLE_DIGITS:
        return f"multipleOf in the JSON schema may have {MAX_MULTIPLE_DIGITS} digits."
    return _pattern_refusal(part.get("pattern"))


def _pattern_refusal(pattern: Any) -> str:
    if not isinstance(pattern, str):
        return ""
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        return f"A pattern of the JSON schema is longer than {MAX_PATTERN_CHARACTERS} characters."
    counts = [number for found in _ANY_COUNT.findall(pattern) for number in found]
    if any(len(number) > 9 or int(number or 0) > MAX_REPEATS for number in counts):
        return f"A pattern of the JSON schema asks for more than {MAX_REPEATS} repetitions."
    return ""


def _product_refusal(part: dict[str, Any]) -> str:
    """Two rules for the same string, in one place."""
    if isinstance(part.get("patternProperties"), dict):
        return "This worker cannot follow patternProperties in a JSON schema."
    if len(_PATTERNS & part.keys() - {"multipleOf"}) + bool(_LENGTHS & part.keys()) > 1 and _is_string_rule(part):
        return "This worker follows one of pattern, format and length for a string, not several together."
    return ""


def _merge_refusal(parts: list[dict[str, Any]]) -> str:
    """Rules that would be compared or merged from several places: harmless for plain objects, not with patterns or
    choices."""
    merged = [part for part in parts if _is_merged(part)]
    is_compared = bool(merged) or any(isinstance(part.get("oneOf"), list) for part in parts)
    if is_compared and any(_PATTERNS & part.keys() and _is_string_rule(part) for part in parts):
        return "This worker cannot follow pattern, format or multipleOf beside oneOf, allOf or a $ref with more rules."
    if merged and any(isinstance(part.get(key), list) for part in parts for key in _CHOICES):
        return "This worker cannot follow anyOf or oneOf beside allOf or a $ref with more rules."
    if len(merged) > 1 and any("$ref" in part for part in parts):
        return "This worker cannot follow a $ref where allOf merges rules in several places."
    return ""


def _is_merged(part: dict[str, Any]) -> bool:
    """Does more than one rule hold for the same value here? An allOf around one rule alone says no more than that."""
    rules = part.keys() - _REMARKS
    several = part.get("allOf")
    if isinstance(several, list) and len(several) > 1:
        return True
    is_reference = isinstance(part.get("$ref"), str)
    return (is_reference or any(isinstance(part.get(key), list) for key in ("allOf", "anyOf"))) and len(rules) > 1


def _is_string_rule(part: dict[str, Any]) -> bool:
    """Not a property that happens to be called so: those have schemas for values."""
    return not any(isinstance(part.get(key), dict) for key in _PATTERNS)


def _digits(number: float) -> int:
    """Digits that count: a remainder is kept for every number below them."""
    return len(f"{number:.12e}".partition("e")[0].replace(".", "").lstrip("-").rstrip("0"))
