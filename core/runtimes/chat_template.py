"""Write a conversation the way that a model was trained to read it, by the Jinja template that its file carries.

Templates come from strangers: they run in a sandbox that bounds their work, with no loader and nothing of ours at hand.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from jinja2.exceptions import SecurityError, TemplateError

from core.job import ChatMessage
from core.runtimes.template_sandbox import TemplateSandbox, TooMuch, bounded, shallow

MAX_PROMPT_CHARACTERS = 4 << 20
MAX_TEMPLATE_CHARACTERS = 128 << 10
MAX_REASON_CHARACTERS = 200
MAX_DATE_CHARACTERS = 64


class TemplateRefused(Exception):
    """The template itself rejects these messages (roles out of turn, say); the message is the template's own."""


class TemplateBroken(Exception):
    """The template cannot be read or run here; the message says why."""


class ChatTemplate:
    """One compiled template. Raises TemplateBroken when it is not valid Jinja."""

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise TemplateBroken("it is too long")
        environment = TemplateSandbox()
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _now
        self._tokens = {"bos_token": bos, "eos_token": eos}
        try:
            with shallow():
                self._template = environment.from_string(source)
        except (TemplateError, TooMuch, RecursionError, MemoryError, SyntaxError, ValueError) as error:
            raise TemplateBroken(_reason(error)) from error

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt, ending where the assistant's answer begins. Raises TemplateRefused or TemplateBroken."""
        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            with bounded():
                return _whole(self._template.generate(messages=turns, add_generation_prompt=True, **self._tokens))
        except TemplateRefused:
            raise
        except Exception as error:  # noqa: BLE001  a template is a stranger's program: whatever it raises ends here
            raise TemplateBroken(_reason(error)) from error


def _whole(parts: Iterator[str]) -> str:
    kept: list[str] = []
    size = 0
    for part in parts:
        size += len(part)
        if size > MAX_PROMPT_CHARACTERS:
            raise TemplateRefused("The prompt is too long")
        kept.append(part)
    return "".join(kept)


def _refuse(message: str) -> None:
    raise TemplateRefused(str(message)[:MAX_REASON_CHARACTERS].rstrip("."))


def _now(form: str) -> str:
    """Today, for the templates that tell their model."""
    return time.strftime(str(form)[:MAX_DATE_CHARACTERS])


def _reason(error: BaseException) -> str:
    """In our own words, or Jinja's where they cannot hold a message's."""
    match error:
        case TooMuch():
            return "it computes more than a template needs"
        case SecurityError():
            return "it reaches for what a template may not use"
        case TemplateError():
            return f"it is no valid template ({type(error).__name__})"
    return f"it fails ({type(error).__name__})"
