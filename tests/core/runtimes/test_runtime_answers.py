"""What answers obey, the same for every runtime that there is: seed, filters, penalties, bias, grammar, stop, odds.

On the tiny random model of conftest.py; test_runtime_contract.py holds the laws of the Protocol itself.
"""

from __future__ import annotations

import msgspec
import pytest

from core.job import FinishReason, Sampling
from core.runtimes.runtime import Runtime
from tests.trials import END, FIRST, job, run, text_of


def test_the_same_seed_draws_the_same_text_in_any_company(runtime: Runtime) -> None:
    warm = Sampling(max_tokens=24, temperature=1.0, seed=11)
    alone = text_of(runtime, warm)
    together = run(runtime, job(0), job(1, sampling=warm), job(2)).texts[FIRST]
    other = text_of(runtime, msgspec.structs.replace(warm, seed=12))
    assert together == alone != other


@pytest.mark.parametrize("filters", [{"top_k": 1}, {"min_p": 1.0}, {"top_p": 0.0}, {"temperature": 1e-6}])
def test_the_tightest_filter_leaves_the_greedy_token(runtime: Runtime, filters: dict[str, float]) -> None:
    open_wide = Sampling(max_tokens=20, temperature=1.5, top_k=0, top_p=1.0, min_p=0.0, seed=5)
    tight = msgspec.structs.replace(open_wide, **filters)
    assert text_of(runtime, tight) == text_of(runtime, Sampling(max_tokens=20))


def test_a_bias_forbids_a_token_or_forces_it(runtime: Runtime) -> None:
    plain = run(runtime, job(1, sampling=Sampling(max_tokens=12, top_logprobs=1))).odds[FIRST]
    letter = ord("e") - 33
    forced = text_of(runtime, Sampling(max_tokens=12, logit_bias=((letter, 100.0),)))
    assert forced == "e" * 12
    banned = Sampling(max_tokens=12, logit_bias=((letter, 100.0), (letter, float("-inf"))))
    assert "e" not in text_of(runtime, banned)
    assert len(plain) == 12


def test_the_models_own_end_ends_a_job_unless_it_is_to_be_ignored(runtime: Runtime) -> None:
    ending = Sampling(max_tokens=6, logit_bias=((END, 100.0),))
    done = run(runtime, job(1, sampling=ending)).done[FIRST]
    assert (done.reason, done.usage.completion_tokens) == (FinishReason.STOP, 0)
    deaf = run(runtime, job(1, sampling=msgspec.structs.replace(ending, ignore_eos=True))).done[FIRST]
    assert (deaf.reason, deaf.usage.completion_tokens) == (FinishReason.LENGTH, 6)


def test_a_penalty_turns_a_repeating_answer(runtime: Runtime) -> None:
    letter = ord("e") - 33
    loop = Sampling(max_tokens=12, logit_bias=((letter, 8.0),))
    assert text_of(runtime, loop).count("e") >= 4
    assert text_of(runtime, msgspec.structs.replace(loop, presence_penalty=2.0, frequency_penalty=2.0)).count("e") < 8
    assert text_of(runtime, msgspec.structs.replace(loop, repeat_penalty=10.0)).count("e") < 4


def test_odds_are_true_and_in_order(runtime: Runtime) -> None:
    told = run(runtime, job(1, sampling=Sampling(max_tokens=10, top_logprobs=4)))
    warm = run(runtime, job(1, sampling=Sampling(max_tokens=10, top_logprobs=0, temperature=1.0)))
    assert len(told.odds[FIRST]) == len(warm.odds[FIRST]) == 10
    for odds in told.odds[FIRST]:
        assert odds.logprob == odds.top[0][1] and odds.piece == odds.top[0][0]
        falling = [logprob for _, logprob in odds.top]
        assert falling == sorted(falling, reverse=True) and falling[0] < 0 and len(falling) == 4
    assert b"".join(odds.piece for odds in told.odds[FIRST]).decode("utf-8", "replace") == told.texts[FIRST]
    assert all(odds.top == () and odds.logprob < 0 for odds in warm.odds[FIRST])


def test_a_stop_string_ends_the_text_before_itself(runtime: Runtime) -> None:
    whole = text_of(runtime, Sampling(max_tokens=24))
    stop = whole[6:9]
    heard = run(runtime, job(1, sampling=Sampling(max_tokens=24, stop=(stop,))))
    assert heard.texts[FIRST] == whole.partition(stop)[0]
    assert heard.done[FIRST].reason is FinishReason.STOP


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_obeys_its_schema_or_grammar(runtime: Runtime, temperature: float) -> None:
    schema = '{"type":"object","properties":{"a":{"type":"boolean"}},"required":["a"],"additionalProperties":false}'
    strict = Sampling(max_tokens=64, temperature=temperature, json_schema=schema)
    assert set(msgspec.json.decode(text_of(runtime, strict))) == {"a"}
    assert text_of(runtime, Sampling(max_tokens=8, temperature=temperature, grammar='root ::= "yes" | "no"')) in (
        "yes",
        "no",
    )


def test_text_never_splits_a_character(runtime: Runtime) -> None:
    text = text_of(runtime, Sampling(max_tokens=9, grammar='root ::= "\u00e9\u20ac\U0001f600"'))
    assert text == "\u00e9\u20ac\U0001f600"
