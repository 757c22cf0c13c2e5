"""Laws of drawing for a whole step at once."""

from __future__ import annotations

import math
from collections import Counter

import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")

import numpy as np
import numpy.typing as npt
import torch

from core.job import Sampling
from core.runtimes.grammar import GrammarWords
from core.runtimes.runtime import RuntimeFault
from core.runtimes.torch_sampling import TorchSampler, draw
from core.worker.messages import Count, Generate

LOGITS = [2.0, 1.0, 0.5, 0.0, -1.0, -3.0]
WIDE = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)


class Letters:
    """Six tokens, "a" to "f"; the last ends a turn."""

    size = 6
    ends: npt.NDArray[np.int64] = np.array([5])
    suppressed: tuple[int, ...] = ()

    @property
    def grammar_words(self) -> GrammarWords:
        return GrammarWords([b"a", b"b", b"c", b"d", b"e", b""], ends=[5])

    def piece(self, token: int) -> bytes | None:
        return None if token == 5 else b"abcde"[token : token + 1]

    def tokenize(self, text: str) -> list[int]:
        return [b"abcde".index(byte) for byte in text.encode()]

    def prompt_of(self, asked: Generate | Count) -> list[int]:
        return self.tokenize(asked.text)

    def close(self) -> None:
        return


def sampler(**switches: object) -> TorchSampler:
    kept = {name: getattr(WIDE, name) for name in WIDE.__struct_fields__}
    return TorchSampler(Sampling(**{**kept, **switches}), Letters())


def shares(asked: TorchSampler, draws: int = 4000, *, said: tuple[int, ...] = ()) -> dict[int, float]:
    """How often each token is drawn, from many rows of one step that share the sampler's luck."""
    rows = torch.tensor([LOGITS] * draws)
    counted = Counter(draw(rows, [asked] * draws, tokens=[list(said)] * draws))
    return {token: count / draws for token, count in counted.items() if isinstance(token, int)}


def softmax(logits: dict[int, float]) -> dict[int, float]:
    total = sum(math.exp(value) for value in logits.values())
    return {token: math.exp(value) / total for token, value in logits.items()}


@pytest.mark.parametrize(
    ("switches", "kept"),
    [
        ({}, dict(enumerate(LOGITS))),
        ({"temperature": 2.0}, {n: x / 2 for n, x in enumerate(LOGITS)}),
        ({"top_k": 2}, {0: 2.0, 1: 1.0}),
        ({"top_p": 0.6}, {0: 2.0, 1: 1.0}),
        ({"top_p": 0.5}, {0: 2.0}),
        ({"top_k": 3, "top_p": 0.7}, {0: 2.0, 1: 1.0}),
        ({"min_p": 0.2}, {0: 2.0, 1: 1.0, 2: 0.5}),
        ({"min_p": 0.2, "temperature": 5.0}, {0: 0.4, 1: 0.2, 2: 0.1}),
        ({"logit_bias": ((0, -math.inf), (4, 3.0))}, {1: 1.0, 2: 0.5, 3: 0.0, 4: 2.0, 5: -3.0}),
        ({"ignore_eos": True, "top_k": 0}, {n: x for n, x in enumerate(LOGITS) if n != 5}),
    ],
)
def test_tokens_are_drawn_as_often_as_the_filters_say(switches: dict[str, object], kept: dict[int, float]) -> None:
    found = shares(sampler(**switches))
    wanted = softmax(kept)
    assert set(found) <= set(wanted)
    assert all(abs(found.get(token, 0.0) - share) < 0.03 for token, share in wanted.items())


def test_penalties_count_the_last_tokens_only() -> None:
    row = torch.tensor([LOGITS])
    penalized = {"repeat_penalty": 2.0, "frequency_penalty": 0.5, "presence_penalty": 0.25}
    said = [1, 4, 4, 0]
    for kept, wanted in ((64, [0.25, -0.25, 0.5, 0.0, -3.25, -3.0]), (1, [0.25, 1.0, 0.5, 0.0, -1.0, -3.0])):
        adjusted = row.clone()[0]
        sampler(penalty_tokens=kept, **penalized).adjust(adjusted, said)
        assert adjusted.tolist() == pytest.approx(wanted)


def test_company_changes_nothing_that_is_drawn() -> None:
    row = torch.tensor([LOGITS])
    alone = [draw(row, [one], tokens=[[]])[0] for one in [sampler(seed=7)] for _ in range(30)]
    one, others = sampler(seed=7), [sampler(seed=n, top_k=n) for n in range(1, 4)]
    greedy = sampler(temperature=0.0)
    rows = torch.tensor([LOGITS] * 5)
    together = [draw(rows, [*others, one, greedy], tokens=[[]] * 5) for _ in range(30)]
    assert [step[3] for step in together] == alone
    assert {step[4] for step in together} == {0}


def test_the_rows_that_odds_are_told_from_are_left_alone() -> None:
    rows = torch.tensor([LOGITS])
    draw(rows, [sampler(logit_bias=((0, -5.0),), repeat_penalty=2.0)], tokens=[[0, 1]])
    assert rows.tolist() == [LOGITS]


def test_who_has_nothing_to_say_fails_alone() -> None:
    hopeless = sampler(grammar='root ::= "a"', logit_bias=((0, -math.inf),))
    rows = torch.tensor([LOGITS] * 2)
    failed, drawn = draw(rows, [hopeless, sampler(temperature=0.0)], tokens=[[], []])
    assert isinstance(failed, RuntimeFault) and drawn == 0
    with pytest.raises(RuntimeFault, match="no token"):
        sampler(logit_bias=tuple((n, -math.inf) for n in range(6)))
