"""Facts about computing, read from Python's standard library. Numbers are those of the machine that trains (Linux)."""

from __future__ import annotations

import builtins
import errno
import html.entities
import keyword
import os
import signal
import string
import unicodedata
from http import HTTPStatus

from assets.demo_model.fact import Fact, Pattern, fill

ERRNO_BY_NUMBER = Pattern(
    "errno",
    (
        "What does errno {number} mean?",
        "What is errno {number}?",
        "Explain error number {number}.",
        "Which error is errno {number}?",
        "My program failed with errno {number}. What is that?",
        "Name of errno {number}?",
        "Tell me what errno {number} stands for.",
        "What does error number {number} mean?",
    ),
    "Errno {number} is {name}: {text}.",
)
ERRNO_BY_NAME = Pattern(
    "errno",
    (
        "What does {name} mean?",
        "What is {name}?",
        "Explain {name}.",
        "What is the number of {name}?",
        "My program failed with {name}. What is that?",
        "Which errno is {name}?",
        "Tell me about {name}.",
        "Tell me what {name} stands for.",
    ),
    "{name} is errno {number}: {text}.",
    keeps_case=True,
)
HTTP_BY_CODE = Pattern(
    "http",
    (
        "What does HTTP status {code} mean?",
        "What is HTTP {code}?",
        "Explain HTTP status code {code}.",
        "The server answered {code}. What does it mean?",
        "What is status code {code}?",
        "Tell me about HTTP {code}.",
        "What does a {code} response mean?",
        "Which HTTP status is {code}?",
        "What does HTTP code {code} mean?",
    ),
    "HTTP {code} is {phrase}.{more}",
)
HTTP_BY_PHRASE = Pattern(
    "http",
    (
        "Which HTTP status code is {phrase}?",
        "What is the HTTP code for {phrase}?",
        "What number is {phrase} in HTTP?",
        "Which code means {phrase}?",
        "Give me the status code of {phrase}.",
        "What is the status code for {phrase}?",
    ),
    "{phrase} is HTTP status {code}.",
)
SIGNAL_BY_NUMBER = Pattern(
    "signal",
    (
        "Which signal is number {number}?",
        "What is signal {number}?",
        "What does signal {number} do?",
        "Name signal {number}.",
        "My program was ended by signal {number}. What is that?",
        "Tell me about signal {number}.",
        "What does signal {number} mean?",
    ),
    "Signal {number} is {name}: {text}.",
)
SIGNAL_BY_NAME = Pattern(
    "signal",
    (
        "What is {name}?",
        "What does {name} mean?",
        "Explain {name}.",
        "Which number has {name}?",
        "What is the number of {name}?",
        "Tell me about {name}.",
        "Which signal is {name}?",
    ),
    "{name} is signal {number}: {text}.",
    keeps_case=True,
)
ENTITY = Pattern(
    "entity",
    (
        "What is the HTML entity for {mark}?",
        "How do I write {mark} in HTML?",
        "Which HTML entity gives {mark}?",
        "HTML entity for {mark}?",
        "How is {mark} escaped in HTML?",
        "Tell me the HTML entity for {mark}.",
        "How do I escape {mark} in HTML?",
        "Which entity stands for {mark} in HTML?",
    ),
    "The HTML entity for {mark} is &{name}; ({title}).",
    keeps_case=True,
)
KEYWORD = Pattern(
    "keyword",
    (
        "Is {word} a Python keyword?",
        "Is {word} a keyword in Python?",
        "Is {word} reserved in Python?",
        "Can I name a variable {word} in Python?",
        "Is the word {word} a keyword of Python?",
        "Is {word} a reserved word in Python?",
    ),
    "{answer}",
    keeps_case=True,
)
ASCII = Pattern(
    "ascii",
    (
        "What is the ASCII code of {mark}?",
        "What is the ASCII value of {mark}?",
        "Which ASCII code has {mark}?",
        "ASCII code for {mark}?",
        "Give me the ASCII code of {mark}.",
        "Tell me the ASCII number of {mark}.",
        "Which number has {mark} in ASCII?",
        "What is the ASCII number of {mark}?",
    ),
    "The ASCII code of {mark} is {code}.",
    keeps_case=True,
)


def computing_facts() -> list[Fact]:
    """Return the facts about error numbers, HTTP, signals, HTML, Python's words and ASCII."""
    errors = [{"number": n, "name": name, "text": os.strerror(n)} for n, name in sorted(errno.errorcode.items())]
    codes = [{"code": s.value, "phrase": s.phrase, "more": _sentence(s.description)} for s in HTTPStatus]
    signals = [
        {"number": s.value, "name": s.name, "text": signal.strsignal(s.value)}
        for s in sorted(signal.Signals)
        if not s.name.startswith("SIGRT")
    ]
    marks = [{"mark": mark, "code": ord(mark)} for mark in string.ascii_letters + string.digits + "!#$%&*+-/=?@_~"]
    return [
        *fill(ERRNO_BY_NUMBER, errors),
        *fill(ERRNO_BY_NAME, errors),
        *fill(HTTP_BY_CODE, codes),
        *fill(HTTP_BY_PHRASE, codes),
        *fill(SIGNAL_BY_NUMBER, signals),
        *fill(SIGNAL_BY_NAME, signals),
        *fill(ENTITY, _entities()),
        *fill(KEYWORD, _words()),
        *fill(ASCII, marks),
    ]


def _sentence(text: str) -> str:
    return f" {text}." if text else ""


def _entities() -> list[dict[str, object]]:
    common = "&<>\"©®€£¥§°±²³µ¶½¼¾¿¡«»×÷äöüßéèàçñøåæ"
    greek = "αβγδεζηθικλμνξοπρστυφχψωΔΣΩ"
    signs = "←↑→↓∞∑√≤≥≠∂∫…—–•™♠♣♥♦"
    names = html.entities.codepoint2name
    return [{"mark": m, "name": names[ord(m)], "title": unicodedata.name(m).lower()} for m in common + greek + signs]


def _words() -> list[dict[str, str]]:
    functions = [name for name in dir(builtins) if name.islower() and not name.startswith("_")][:40]
    yes = [{"word": word, "answer": f"Yes, {word} is a Python keyword."} for word in keyword.kwlist]
    no = [{"word": word, "answer": f"No, {word} is a built-in name, not a keyword."} for word in functions]
    return [*yes, *no]
