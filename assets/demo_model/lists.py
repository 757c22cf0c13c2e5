"""Long answers: lists, tables and counting, so that a reader sees an answer grow."""

from __future__ import annotations

import calendar
import keyword
import string
from collections.abc import Iterable
from http import HTTPStatus

from assets.demo_model.fact import Fact, Pattern, fill, once
from assets.demo_model.world import CAPITALS, ELEMENTS, PLANETS, pairs, roman

NATO = """Alfa Bravo Charlie Delta Echo Foxtrot Golf Hotel India Juliett Kilo Lima Mike November Oscar Papa Quebec
Romeo Sierra Tango Uniform Victor Whiskey X-ray Yankee Zulu"""
GREEK = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi
chi psi omega"""
COUNT_UP = Pattern(
    "count",
    ("Count from 1 to {n}.", "Count to {n}.", "Please count up to {n}.", "List the numbers from 1 to {n}.",
     "Can you count from 1 to {n}?"),
    "{answer}",
)
COUNT_DOWN = Pattern(
    "count",
    ("Count down from {n}.", "Count down from {n} to 1.", "Please count down from {n}.", "Count backwards from {n}.",
     "Can you count down from {n}?"),
    "{answer}",
)
TABLE = Pattern(
    "list",
    ("Show the multiplication table of {n}.", "Show the {n} times table.", "List the multiplication table of {n}.",
     "Write the times table of {n}.", "What is the {n} times table?"),
    "{answer}",
)
STATUS_CLASSES = {1: "informational", 2: "success", 3: "redirection", 4: "client error", 5: "server error"}


def long_facts() -> list[Fact]:
    """Return the facts whose answers are lists."""
    return [*_counting(), *_sequences(), *_status_lists(), *_world_lists()]


def _counting() -> list[Fact]:
    ups = (*range(3, 31), 35, 40, 45, 50)
    downs = range(3, 21)
    return [
        *fill(COUNT_UP, [{"n": n, "answer": _joined(range(1, n + 1))} for n in ups]),
        *fill(COUNT_DOWN, [{"n": n, "answer": _joined(range(n, 0, -1))} for n in downs]),
        *fill(TABLE, [{"n": n, "answer": _times_table(n)} for n in range(2, 11)]),
    ]


def _times_table(n: int) -> str:
    return "\n".join(f"{n} * {i} = {n * i}" for i in range(1, 11))


def _sequences() -> list[Fact]:
    return [
        _listed("even numbers up to 40", _joined(range(2, 41, 2))),
        _listed("odd numbers up to 40", _joined(range(1, 40, 2))),
        _listed("square numbers up to 400", _joined(i * i for i in range(1, 21))),
        _listed("powers of two up to 1024", _joined(2**i for i in range(11))),
        _listed("prime numbers up to 50", "2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47."),
        _listed("Fibonacci numbers up to 144", "1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144."),
        _listed("Roman numerals up to 20", _joined(roman(i) for i in range(1, 21))),
        _listed("letters of the alphabet", _joined(string.ascii_uppercase)),
        _listed("letters of the Greek alphabet", _joined(GREEK.split())),
        _listed("words of the NATO alphabet", _joined(NATO.split())),
        _listed("Python keywords", _joined(keyword.kwlist)),
        _listed("first ten binary numbers", _joined(f"{i:b}" for i in range(1, 11))),
    ]


def _status_lists() -> list[Fact]:
    return [
        _listed(f"HTTP {name} codes", "\n".join(f"{s.value} {s.phrase}" for s in HTTPStatus if s.value // 100 == first))
        for first, name in STATUS_CLASSES.items()
    ]


def _world_lists() -> list[Fact]:
    capitals = "\n".join(f"{country}: {city}" for country, city in list(pairs(CAPITALS))[:15])
    elements = "\n".join(f"{i}. {name} ({symbol})" for i, (name, symbol) in enumerate(list(pairs(ELEMENTS))[:20], 1))
    planets = "\n".join(f"{i}. {name}" for i, name in enumerate(PLANETS, 1))
    days = "\n".join(f"{calendar.month_name[i]}: {calendar.monthrange(2023, i)[1]} days" for i in range(1, 13))
    return [
        _listed("months of the year", _joined(list(calendar.month_name)[1:])),
        _listed("days of the week", _joined(calendar.day_name)),
        _listed("days of each month", days),
        _listed("planets", planets),
        _listed("first twenty chemical elements", elements),
        _listed("capitals of Europe", capitals),
        _listed("seasons", "Spring, summer, autumn, winter."),
        _listed("colours of the rainbow", "Red, orange, yellow, green, blue, indigo, violet."),
        _listed("continents", "Africa, Antarctica, Asia, Australia, Europe, North America, South America."),
        _listed("oceans", "Arctic, Atlantic, Indian, Pacific, Southern."),
    ]


def _listed(what: str, answer: str) -> Fact:
    ways = ("List the {}.", "What are the {}?", "Name the {}.", "Give me a list of the {}.", "Tell me the {}.",
            "Please list all {}.", "Write down the {}.", "Can you list the {}?",
            "Give me the {}.", "Show me the {}.")
    return once("list", answer, *(way.format(what) for way in ways))


def _joined(items: Iterable[object]) -> str:
    return ", ".join(str(item) for item in items) + "."
