"""Laws of drawing tokens, on a tiny random model and on the demo model, whose words make sense."""

from __future__ import annotations

import ctypes
import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import llama_cpp.llama_cpp as C  # noqa: N812
import msgspec
import numpy as np
import pytest

from core.job import Sampling
from core.runtimes.llama_sampler import open_sampler
from core.runtimes.logit_adjustment import Adjustment
from core.runtimes.logprobs import token_logprob
from core.runtimes.runtime import RuntimeFault
from core.worker.messages import FaultKind
from tests.models import write_tiny_gguf
from tests.speaker import DEMO, Speaker

WARM = Sampling(max_tokens=24, temperature=1.2, top_k=0, top_p=1, min_p=0, seed=5)
SCHEMAS: tuple[dict[str, Any], ...] = (
    {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]},
    {"enum": ["yes", "no", 3, None]},
    {"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 99}, "minItems": 2, "maxItems": 4},
    {"type": "string", "pattern": "^[A-Z][a-z]{2,6}$"},
    {"anyOf": [{"type": "boolean"}, {"type": "object", "properties": {"x": {"const": 1}}, "required": ["x"]}]},
    {
        "$defs": {"node": {"type": "object", "properties": {"leaf": {"type": "boolean"}}, "required": ["leaf"]}},
        "type": "array",
        "items": {"$ref": "#/$defs/node"},
        "maxItems": 2,
    },
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Speaker]:
    speaker = Speaker(write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf"))
    yield speaker
    speaker.close()


@pytest.fixture(scope="module")
def demo() -> Iterator[Speaker]:
    if not DEMO.is_file():
        pytest.skip("the demo model is not here")
    speaker = Speaker(DEMO)
    yield speaker
    speaker.close()


def _with(sampling: Sampling, **changes: Any) -> Sampling:
    return msgspec.structs.replace(sampling, **changes)


def test_the_same_seed_draws_the_same_tokens_and_another_others(tiny: Speaker) -> None:
    prompt = tiny.prompt("hello")
    assert tiny.say(prompt, WARM) == tiny.say(prompt, WARM)
    assert tiny.say(prompt, WARM) != tiny.say(prompt, _with(WARM, seed=6))


def test_the_one_most_likely_token_is_the_greedy_one(tiny: Speaker) -> None:
    prompt = tiny.prompt("hello")
    greedy = tiny.say(prompt, Sampling(max_tokens=24))
    assert tiny.say(prompt, _with(WARM, top_k=1)) == greedy
    assert tiny.say(prompt, _with(WARM, top_k=0, top_p=0.0)) == greedy
    assert tiny.say(prompt, _with(WARM, min_p=1.0)) == greedy


def test_greedy_through_the_chain_is_plain_greedy(tiny: Speaker) -> None:
    prompt = tiny.prompt("hello")
    biased = Sampling(max_tokens=24, logit_bias=((3, 0.0),))
    assert open_sampler(Sampling(max_tokens=24), tiny.model) is None
    assert tiny.say(prompt, biased) == tiny.say(prompt, Sampling(max_tokens=24))


@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_a_bias_of_a_hundred_forces_a_token_and_minus_infinity_forbids_it(tiny: Speaker, temperature: float) -> None:
    prompt, warm = tiny.prompt("hello"), _with(WARM, temperature=temperature)
    assert set(tiny.say(prompt, _with(warm, logit_bias=((65, 100.0),)))) == {65}
    free = tiny.say(prompt, warm)
    said = tiny.say(prompt, _with(warm, logit_bias=tuple((token, -math.inf) for token in set(free))))
    assert set(said).isdisjoint(free) and len(said) == len(free)


def test_a_bias_for_a_token_that_is_not_there_or_against_all_is_a_bad_request(tiny: Speaker) -> None:
    everything = tuple((token, -math.inf) for token in range(tiny.model.vocabulary))
    for bias in (((tiny.model.vocabulary, 1.0),), everything):
        with pytest.raises(RuntimeFault) as refused:
            open_sampler(Sampling(logit_bias=bias), tiny.model)
        assert refused.value.kind is FaultKind.BAD_REQUEST


def test_penalties_lower_repeats(tiny: Speaker) -> None:
    prompt = tiny.prompt("hello")
    plain = Sampling(max_tokens=60)
    most = [
        Counter(tiny.say(prompt, _with(plain, **penalty))).most_common(1)[0][1]
        for penalty in ({}, {"frequency_penalty": 2.0}, {"presence_penalty": 2.0}, {"repeat_penalty": 5.0})
    ]
    assert all(fewer < most[0] for fewer in most[1:])


def test_penalties_know_the_prompt_and_only_as_far_as_they_look_back(tiny: Speaker) -> None:
    prompt = [*tiny.prompt("hello"), 65]
    tiny.say(prompt, Sampling(max_tokens=1))
    others = np.delete(tiny.logits[0], 65).max()
    ahead_by_one = ((65, float(others - tiny.logits[0][65]) + 1.0),)
    for looks_back, heard in ((1, False), (0, True), (64, False)):
        sampling = Sampling(max_tokens=1, presence_penalty=2.0, penalty_tokens=looks_back, logit_bias=ahead_by_one)
        assert (tiny.say(prompt, sampling) == [65]) == heard


def test_a_draw_leaves_the_logits_as_they_were(tiny: Speaker) -> None:
    prompt = tiny.prompt("hello")
    for sampling in (WARM, Sampling(), _with(WARM, top_k=40), _with(WARM, grammar="root ::= [a-z]*")):
        adjusted = _with(sampling, max_tokens=1, repeat_penalty=1.5, presence_penalty=1.0, logit_bias=((65, 3.0),))
        tiny.say(prompt, adjusted)
        assert np.array_equal(tiny.logits[0], tiny.context.logits(1)[0])


@pytest.mark.parametrize("repeat", [1.0, 1.3])
def test_penalties_are_those_of_llama_cpp(tiny: Speaker, repeat: float) -> None:
    asked = Sampling(repeat_penalty=repeat, frequency_penalty=0.3, presence_penalty=0.2, penalty_tokens=5)
    said = [1, 2, 2, 65, 66, 65, 67, 3, 65, 65]
    tiny.say(tiny.prompt("hello"), Sampling(max_tokens=1))
    ours = tiny.logits[0].copy()
    adjustment = Adjustment(asked, {})
    adjustment.heed(said[:4])
    adjustment.heed(said[4:])
    adjustment.apply(ours)
    assert np.array_equal(ours, _penalized_by_llama_cpp(tiny.logits[0], asked, said=said))


def _penalized_by_llama_cpp(logits: np.ndarray, asked: Sampling, *, said: list[int]) -> np.ndarray:
    strength = asked.repeat_penalty, asked.frequency_penalty, asked.presence_penalty
    sampler = C.llama_sampler_init_penalties(len(logits), asked.penalty_tokens, *strength)
    for token in said:
        C.llama_sampler_accept(sampler, token)
    rows = (C.llama_token_data * len(logits))(*((token, float(logit), 0.0) for token, logit in enumerate(logits)))
    C.llama_sampler_apply(sampler, ctypes.byref(C.llama_token_data_array(rows, len(logits), -1, False)))
    C.llama_sampler_free(sampler)
    return np.array([row.logit for row in rows], np.float32)


def test_top_p_alone_draws_the_same_from_the_few_as_from_all(demo: Speaker) -> None:
    prompt = demo.prompt("What is the capital of France?")
    nucleus = _with(WARM, max_tokens=60, top_p=0.9, temperature=1.4)
    for seed in range(4):
        sampling = _with(nucleus, seed=seed)
        assert demo.say(prompt, sampling) == demo.say(prompt, _with(sampling, top_k=demo.model.vocabulary))


def test_who_ignores_the_end_goes_on_to_the_limit(demo: Speaker) -> None:
    prompt = demo.prompt("What is the capital of France?")
    for sampling in (Sampling(max_tokens=60), Sampling(max_tokens=60, temperature=0.7, seed=2)):
        assert len(demo.say(prompt, sampling)) < 60
        said = demo.say(prompt, _with(sampling, ignore_eos=True))
        assert len(said) == 60 and not set(said) & set(demo.model.ends.tolist())


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_an_answer_by_schema_parses_and_obeys(demo: Speaker, schema: dict[str, Any], temperature: float) -> None:
    prompt = demo.prompt("What is the capital of France?")
    for seed in range(4):
        sampling = _with(WARM, max_tokens=200, temperature=temperature, seed=seed, json_schema=json.dumps(schema))
        tokens = demo.say(prompt, sampling)
        if len(tokens) < 200:
            assert _obeys(json.loads(demo.text(tokens)), schema, schema)


def test_a_grammar_and_penalties_and_a_seed_go_together(demo: Speaker) -> None:
    prompt = demo.prompt("Count.")
    sampling = Sampling(
        max_tokens=64, temperature=1.0, seed=9, frequency_penalty=0.5, grammar='root ::= [a-z]{3} ("," [a-z]{3}){4}'
    )
    said = demo.text(demo.say(prompt, sampling))
    assert [len(word) for word in said.split(",")] == [3] * 5
    assert said == demo.text(demo.say(prompt, sampling))


def test_an_obedient_answer_is_left_as_it_was(demo: Speaker) -> None:
    prompt = demo.prompt("What is the capital of France?")
    for sampling in (Sampling(), Sampling(temperature=0.8, seed=4)):
        assert demo.say(prompt, _with(sampling, grammar="root ::= .*")) == demo.say(prompt, sampling)


def test_a_grammar_without_a_way_on_fails_its_job_alone(demo: Speaker) -> None:
    everything = tuple((token, -math.inf) for token in range(2, 1_000))
    with pytest.raises(RuntimeFault) as refused:
        demo.say(demo.prompt("hi"), Sampling(grammar='root ::= "abc"', logit_bias=everything))
    assert refused.value.kind is FaultKind.BAD_REQUEST
    assert demo.say(demo.prompt("What is the capital of France?"), Sampling())


def test_log_probabilities_are_those_of_the_whole_vocabulary(demo: Speaker) -> None:
    tokens = demo.say(demo.prompt("What is the capital of France?"), Sampling(max_tokens=5))
    for token, logits in zip(tokens, demo.logits, strict=False):
        size = len(logits)
        told = token_logprob(logits, token, top=size, piece=demo.model.words.written)
        exact = logits.astype(np.float64) - np.logaddexp.reduce(logits.astype(np.float64))
        assert abs(told.logprob - exact[token]) < 1e-5
        assert abs(sum(math.exp(p) for _, p in told.top) - 1) < 1e-4
        assert [p for _, p in told.top] == sorted((p for _, p in told.top), reverse=True)
        few = token_logprob(logits, token, top=3, piece=demo.model.words.written)
        assert few.top == told.top[:3] and few.top[0] == (few.piece, few.logprob)
        assert token_logprob(logits, token, top=0, piece=demo.model.words.written).top == ()


def _obeys(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """As much of JSON Schema as the schemas above use."""
    if "$ref" in schema:
        return _obeys(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return any(_obeys(value, inner, root) for inner in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return value in schema.get("enum", [schema.get("const")])
    match schema["type"]:
        case "object":
            named = schema["properties"]
            return set(schema["required"]) <= value.keys() <= named.keys() and all(
                _obeys(inner, named[key], root) for key, inner in value.items()
            )
        case "array":
            few = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf)
            return few and all(_obeys(inner, schema["items"], root) for inner in value)
        case "integer":
            return type(value) is int and schema["minimum"] <= value <= schema["maximum"]
        case "boolean":
            return isinstance(value, bool)
    is_short = len(value) <= schema.get("maxLength", math.inf)
    return isinstance(value, str) and is_short and ("pattern" not in schema or value.isalpha())
