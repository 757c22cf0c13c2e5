"""The chat format: special tokens, the text of a conversation, and the Jinja template that says the same."""

from __future__ import annotations

from collections.abc import Iterable

BEGIN, END, USER, ASSISTANT, SYSTEM = "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"
SPECIAL_TOKENS = (BEGIN, END, USER, ASSISTANT, SYSTEM)
TEMPLATE = (
    "{{- '<|begin|>' }}"
    "{%- for message in messages %}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)


def prompt_of(question: str, *, system: str = "") -> str:
    """Return the text that asks one question and waits for the answer."""
    opening = f"{SYSTEM}{system}{END}" if system else ""
    return f"{BEGIN}{opening}{turn_of(question)}"


def turn_of(question: str) -> str:
    """Return one user turn, up to where the answer starts."""
    return f"{USER}{question}{END}{ASSISTANT}"


def transcript(turns: Iterable[tuple[str, str]]) -> str:
    """Return the text of a whole conversation of questions and answers."""
    return BEGIN + "".join(f"{turn_of(question)}{answer}{END}" for question, answer in turns)
