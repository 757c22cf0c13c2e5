"""Ask the demo model everything and count exact answers: `python -m assets.demo_model.evaluate`. Never changes it."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from tokenizers import Tokenizer
from torch import Tensor

from assets.demo_model.chat import END, prompt_of
from assets.demo_model.corpus import all_facts
from assets.demo_model.export import read_weights
from assets.demo_model.network import Network, Shape
from assets.demo_model.tokenizer import load_tokenizer

ROWS_AT_ONCE = 64


class Asked(msgspec.Struct, frozen=True):
    """One question, the answer that counts as exact, and which share it belongs to."""

    kind: str
    question: str
    answer: str
    is_held_out: bool


class DemoModel:
    """The model in torch, answering greedily."""

    def __init__(self, folder: Path) -> None:
        self._network = Network(Shape(), read_weights(folder))
        self._tokenizer: Tokenizer = load_tokenizer(folder / "tokenizer.json")
        self._end = self._tokenizer.token_to_id(END)

    def are_exact(self, prompts: Sequence[str], answers: Sequence[str]) -> list[bool]:
        """Tell for each prompt whether the greedy answer is exactly the given one, cleanly ended.

        Greedy decoding gives an answer exactly if every token of it scores highest after those before it, so one
        pass over prompt and answer together is enough.
        """
        exact: list[bool] = []
        for start in range(0, len(prompts), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            exact += self._check(prompts[part], answers[part])
        return exact

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """Return the scores after each token, (length, vocabulary)."""
        with torch.no_grad():
            return self._network.logits(self._network.states(torch.tensor([list(tokens)])))[0]

    def answer(self, question: str, *, most_tokens: int = 256) -> str:
        """Answer one question greedily."""
        tokens: list[int] = self._tokenizer.encode(prompt_of(question)).ids
        length = len(tokens)
        while len(tokens) < length + most_tokens:
            best = int(self.logits(tokens)[-1].argmax())
            if best == self._end:
                break
            tokens.append(best)
        return str(self._tokenizer.decode(tokens[length:]))

    def _check(self, prompts: Sequence[str], answers: Sequence[str]) -> list[bool]:
        asked = [self._tokenizer.encode(prompt).ids for prompt in prompts]
        said = [self._tokenizer.encode(answer + END).ids for answer in answers]
        rows = list(zip(asked, said, strict=True))
        tokens = torch.zeros((len(rows), max(len(a) + len(b) for a, b in rows)), dtype=torch.long)
        for index, (before, after) in enumerate(rows):
            tokens[index, : len(before) + len(after)] = torch.tensor(before + after)
        with torch.no_grad():
            best = self._network.logits(self._network.states(tokens)).argmax(-1)
        return [
            best[index, len(before) - 1 : len(before) + len(after) - 1].tolist() == after
            for index, (before, after) in enumerate(rows)
        ]


def questions() -> list[Asked]:
    """Return every phrasing of every fact, seen or held out."""
    return [
        Asked(fact.kind, question, fact.answer, held_out)
        for fact in all_facts()
        for held_out, ways in ((False, fact.asked), (True, fact.held_out))
        for question in ways
    ]


def shares(model: DemoModel, asked: Sequence[Asked]) -> dict[tuple[str, bool], tuple[int, int]]:
    """Return, by kind and held out or not, how many were answered exactly and how many were asked."""
    order = sorted(asked, key=lambda one: len(one.question) + len(one.answer))
    exact = model.are_exact([prompt_of(one.question) for one in order], [one.answer for one in order])
    total: Counter[tuple[str, bool]] = Counter()
    right: Counter[tuple[str, bool]] = Counter()
    for one, is_exact in zip(order, exact, strict=True):
        for kind in (one.kind, "all"):
            total[kind, one.is_held_out] += 1
            right[kind, one.is_held_out] += is_exact
    return {key: (right[key], total[key]) for key in total}


def main() -> None:
    """Print the table of exact answers, or answer the questions given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", nargs="*")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = DemoModel(arguments.folder)
    for question in arguments.questions:
        sys.stdout.write(f"{question}\n  {model.answer(question)}\n")
    if not arguments.questions:
        sys.stdout.write(_table(shares(model, questions())))


def _table(found: dict[tuple[str, bool], tuple[int, int]]) -> str:
    lines = [f"{'kind':12}{'seen phrasings':>22}{'held-out phrasings':>22}"]
    for kind in sorted({kind for kind, _ in found}, key=lambda kind: (kind == "all", kind)):
        cells = [_cell(found.get((kind, held_out))) for held_out in (False, True)]
        lines.append(f"{kind:12}{cells[0]:>22}{cells[1]:>22}")
    return "\n".join(lines) + "\n"


def _cell(pair: tuple[int, int] | None) -> str:
    if pair is None:
        return "-"
    right, total = pair
    return f"{right}/{total} = {right / total:.1%}"


if __name__ == "__main__":
    main()
