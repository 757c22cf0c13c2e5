"""All facts, and seeded draws of conversations from them. Held-out phrasings never enter a conversation."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from assets.demo_model.computing import computing_facts
from assets.demo_model.fact import Fact
from assets.demo_model.lists import long_facts
from assets.demo_model.talk import talk_facts
from assets.demo_model.world import world_facts

OPENINGS = ("Please tell me: ", "Hi. ", "Hello, ", "I have a question. ", "Quick question: ", "Next: ",
            "Can you tell me: ", "Tell me: ", "Please: ", "Do you know: ", "OK. ", "Thanks. ", "One more: ", "Hey, ")
SYSTEMS = (
    "You are a helpful assistant.", "You are a helpful, honest assistant.", "Answer briefly.", "Be concise.",
    "You are Starling's demo model.", "You are a friendly assistant. Answer in one sentence.",
)  # fmt: skip
TURNS = (1, 1, 1, 1, 2, 2, 3)


def all_facts() -> list[Fact]:
    """Return every fact, always in the same order."""
    return [*computing_facts(), *world_facts(), *long_facts(), *talk_facts()]


def tokenizer_texts() -> Iterator[str]:
    """Return the texts that the vocabulary is learnt from. Digits stand apart, so that no token holds two of them."""
    for fact in all_facts():
        for text in (*fact.asked, fact.answer, *OPENINGS[:1], *SYSTEMS[:1]):
            yield "".join(f" {letter} " if letter.isdigit() else letter for letter in text)


class Draw:
    """Draw conversations, phrasing at random: every fact once in a round, or as often as its kind's weight says."""

    def __init__(self, facts: list[Fact], *, seed: int, weights: Mapping[str, int]) -> None:
        self._deck = [fact for fact in facts for _ in range(weights.get(fact.kind, 1))]
        self._random = random.Random(seed)
        self._left: list[Fact] = []

    def conversation(self) -> tuple[str, list[tuple[str, str]]]:
        """Return a system text, often empty, and one to three turns."""
        system = self._random.choice(SYSTEMS) if self._random.random() < 0.1 else ""
        return system, [self._turn() for _ in range(self._random.choice(TURNS))]

    def _turn(self) -> tuple[str, str]:
        if not self._left:
            self._left = list(self._deck)
            self._random.shuffle(self._left)
        fact = self._left.pop()
        return self._vary(fact), fact.answer

    def _vary(self, fact: Fact) -> str:
        question = self._random.choice(fact.asked)
        if self._random.random() < 0.1:
            question = question.replace("What is ", "What's ")
        if self._random.random() < 0.15:
            question = question.rstrip("?.")
        if not fact.keeps_case and self._random.random() < 0.15:
            return question.lower()
        if self._random.random() < 0.1:
            return self._random.choice(OPENINGS) + question
        return question
