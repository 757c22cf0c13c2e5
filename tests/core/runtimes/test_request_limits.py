"""Laws of what a stranger may ask for."""

from __future__ import annotations

import math

import msgspec
import pytest

from core.job import ChatMessage, Sampling
from core.runtimes.request_limits import prompt_refusal, sampling_refusal


def test_ordinary_sampling_is_allowed() -> None:
    assert sampling_refusal(Sampling(temperature=0.8, stop=("\n\n",), seed=-1)) == ""


@pytest.mark.parametrize(
    "wild",
    [
        {"temperature": math.nan},
        {"temperature": -1.0},
        {"temperature": 1e308},
        {"top_p": 2.0},
        {"min_p": math.nan},
        {"top_k": -1},
        {"top_k": 1 << 40},
        {"stop": ("x",) * 17},
        {"stop": ("x" * 300,)},
    ],
)
def test_wild_sampling_is_refused(wild: dict[str, object]) -> None:
    assert sampling_refusal(msgspec.structs.replace(Sampling(), **wild))


def test_an_endless_prompt_is_refused_without_reading_it() -> None:
    assert prompt_refusal((ChatMessage("user", "x" * 1000),), 512) == ""
    assert prompt_refusal((ChatMessage("user", "x" * 100_000),), 512)
    assert prompt_refusal((), 512)
