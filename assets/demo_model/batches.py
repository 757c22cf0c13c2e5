"""Cut conversations into batches of tokens, of equal cost. Only answers are learnt; the rest is masked."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import torch
from tokenizers import Tokenizer

from assets.demo_model.chat import BEGIN, END, SYSTEM, turn_of
from assets.demo_model.corpus import Draw

Tokens = tuple[list[int], list[bool]]
POOL = 512
LONG_ROWS_IN_POOL = 3


class Batch(msgspec.Struct, frozen=True):
    """`tokens` (rows, length), and `learnt` (rows, length): which tokens are to be predicted."""

    tokens: torch.Tensor
    learnt: torch.Tensor


def batches(draw: Draw, tokenizer: Tokenizer, *, tokens_in_batch: int, context: int) -> Iterator[Batch]:
    """Yield batches without end. Rows of like length go together; now and then a row fills the whole context."""
    shuffle = torch.Generator().manual_seed(0)
    while True:
        pool = sorted((_encode(draw, tokenizer) for _ in range(POOL)), key=lambda row: len(row[0]))
        cut = list(_cut(pool, tokens_in_batch))
        cut.append([_long_row(draw, tokenizer, context=context) for _ in range(LONG_ROWS_IN_POOL)])
        for index in torch.randperm(len(cut), generator=shuffle).tolist():
            yield _batch(cut[index])


def _encode(draw: Draw, tokenizer: Tokenizer) -> Tokens:
    system, turns = draw.conversation()
    opening = tokenizer.encode(f"{BEGIN}{SYSTEM}{system}{END}" if system else BEGIN).ids
    tokens, learnt = list(opening), [False] * len(opening)
    for question, answer in turns:
        asked, said = tokenizer.encode(turn_of(question)).ids, tokenizer.encode(answer + END).ids
        tokens += asked + said
        learnt += [False] * len(asked) + [True] * len(said)
    return tokens, learnt


def _long_row(draw: Draw, tokenizer: Tokenizer, *, context: int) -> Tokens:
    tokens: list[int] = []
    learnt: list[bool] = []
    while len(tokens) < context:
        more, mask = _encode(draw, tokenizer)
        tokens += more
        learnt += mask
    return tokens[:context], learnt[:context]


def _cut(pool: list[Tokens], tokens_in_batch: int) -> Iterator[list[Tokens]]:
    rows: list[Tokens] = []
    for row in pool:
        if rows and (len(rows) + 1) * len(row[0]) > tokens_in_batch:
            yield rows
            rows = []
        rows.append(row)
    yield rows


def _batch(rows: list[Tokens]) -> Batch:
    length = max(len(tokens) for tokens, _ in rows)
    tokens = torch.zeros((len(rows), length), dtype=torch.long)
    learnt = torch.zeros((len(rows), length), dtype=torch.bool)
    for index, (row, mask) in enumerate(rows):
        tokens[index, : len(row)] = torch.tensor(row)
        learnt[index, : len(mask)] = torch.tensor(mask)
    return Batch(tokens, learnt)
