"""Laws of grammars and schemas as strangers send them."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest

from core.job import Sampling
from core.runtimes.grammar import Grammar, GrammarWords, open_grammar
from core.runtimes.runtime import RuntimeFault
from core.runtimes.schema_limits import schema_refusal
from core.worker.messages import FaultKind

END = 256
AMBIGUOUS = 'root ::= s\ns ::= s s s s | [a-z ] | ""'
DOUBLING = 'root ::= a0\n' + "".join(f"a{n} ::= a{n + 1} a{n + 1}\n" for n in range(60)) + 'a60 ::= "a"'


@pytest.fixture(scope="module")
def words() -> GrammarWords:
    rng = np.random.default_rng(3)
    longer = {bytes(rng.choice(list(b"abcdef ,:{}"), size=n)) for n in range(2, 9) for _ in range(60)}
    return GrammarWords([bytes([b]) for b in range(256)] + [b""] + sorted(longer), ends=[END])


def _wander(grammar: Grammar, *, steps: int, seed: int = 5) -> bytes | None:
    """Random tokens that the grammar allows; None when they do not come to an end."""
    rng = np.random.default_rng(seed)
    said = b""
    for _ in range(steps):
        token = int(rng.choice(np.flatnonzero(grammar.mask())))
        assert grammar.allows(token)
        if token == END:
            return said
        grammar.accept(token)
        said += bytes([token]) if token < END else b"?"
    return None


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"type": "array", "items": {"minItems": 1_000_000}},
        {"type": "string", "pattern": "^(a{1,9999}){1,9999}$"},
        {"type": "string", "pattern": "a" * 2_000},
        {"type": "integer", "multipleOf": 99_999_989},
        {"type": "string", "pattern": "^(a|b)*a(a|b){200}$", "maxLength": 100},
        {"allOf": [{"type": "string", "pattern": f"(a|b)*a(a|b){{{n}}}c*"} for n in range(20)]},
        {"oneOf": [{"type": "string", "pattern": f"(a|b)*a(a|b){{{n}}}c*"} for n in range(20)]},
        {"patternProperties": {"(a|b)*a(a|b){90}": {}, "a": {}}},
        {"allOf": [{"anyOf": [{"properties": {f"a{n}{m}": {}}} for m in range(8)]} for n in range(12)]},
        {"$defs": {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(30)}, "$ref": "#/$defs/a0"},
        {"enum": list(range(5_000))},
    ],
)
def test_a_schema_bomb_is_refused_before_anything_is_made_of_it(schema: dict[str, Any]) -> None:
    assert schema_refusal(json.dumps(schema)).endswith(".")


@pytest.mark.parametrize("text", ["", "{", "[" * 50_000, '{"items":' * 5_000 + "{}" + "}" * 5_000, "[]", "true", '"x"'])
def test_what_is_no_schema_is_refused(text: str) -> None:
    assert schema_refusal(text)
    assert schema_refusal('{"const": "' + "x" * 70_000 + '"}')


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/nowhere"},
        {"allOf": [{"$ref": "#"}]},
        {"type": "banana"},
        {"type": 1},
        {"not": {"type": "string"}},
        {"properties": [1]},
        {"type": "string", "pattern": "(?<=x)y"},
        {"type": "integer", "multipleOf": 0},
    ],
)
def test_a_schema_that_cannot_be_followed_is_a_bad_request_at_once(schema: dict[str, Any], words: GrammarWords) -> None:
    began = time.process_time()
    with pytest.raises(RuntimeFault) as refused:
        grammar = open_grammar(Sampling(json_schema=json.dumps(schema)), words)
        _wander(grammar, steps=3)
    assert refused.value.kind is FaultKind.BAD_REQUEST
    assert time.process_time() - began < 2


@pytest.mark.parametrize("bomb", [AMBIGUOUS, DOUBLING, "root ::= root", "root ::= a\na ::= root", 'root ::= "a" root'])
def test_a_grammar_bomb_ends_its_job_soon_or_obeys(bomb: str, words: GrammarWords) -> None:
    began = time.process_time()
    try:
        _wander(open_grammar(Sampling(grammar=bomb), words), steps=40)
    except RuntimeFault as fault:
        assert fault.kind is FaultKind.BAD_REQUEST
    assert time.process_time() - began < 5


def test_a_pattern_bomb_ends_its_job_soon_or_obeys(words: GrammarWords) -> None:
    began = time.process_time()
    for pattern in ("(([a-z]{1,500}){1,500}){1,500}", "^(a+)+$", ".*" * 200, "(a|b)*a(a|b){200}"):
        sampling = Sampling(json_schema=json.dumps({"pattern": pattern, "type": "string"}))
        try:
            _wander(open_grammar(sampling, words), steps=9)
        except RuntimeFault as fault:
            assert fault.kind is FaultKind.BAD_REQUEST
    assert time.process_time() - began < 5


def test_a_refusal_never_repeats_the_requesters_words(words: GrammarWords) -> None:
    for schema in ({"type": "secret-word"}, {"secret-word": 1, "not": {}}, {"$ref": "#/secret-word"}):
        with pytest.raises(RuntimeFault) as refused:
            open_grammar(Sampling(json_schema=json.dumps(schema)), words).mask()
        assert "secret" not in refused.value.message


def test_many_optional_properties_are_no_bomb(words: GrammarWords) -> None:
    schema = {"type": "object", "properties": {f"p{n}": {"type": "boolean"} for n in range(120)}}
    schema["additionalProperties"] = False
    said = _wander(open_grammar(Sampling(json_schema=json.dumps(schema)), words), steps=4_000)
    assert said is not None


def test_an_object_has_the_properties_that_its_schema_names_and_no_others(words: GrammarWords) -> None:
    schema = {"type": "object", "properties": {"a": {"const": {"properties": {"b": {}}}}}, "required": ["a"]}
    said = _wander(open_grammar(Sampling(json_schema=json.dumps(schema)), words), steps=400)
    assert said is not None and json.loads(said) == {"a": {"properties": {"b": {}}}}


def test_after_its_end_a_grammar_allows_the_end_alone(words: GrammarWords) -> None:
    grammar = open_grammar(Sampling(grammar='root ::= "a"'), words)
    assert grammar.allows(ord("a")) and not grammar.allows(ord("b")) and not grammar.allows(END)
    grammar.accept(ord("a"))
    assert grammar.allows(END) and not grammar.allows(ord("a"))
    assert np.flatnonzero(grammar.mask()).tolist() == [END]
    grammar.accept(END)
