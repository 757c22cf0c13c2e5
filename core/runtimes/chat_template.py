"""Write a conversation the way that a model was trained to read it, by the Jinja template that its file carries.

Templates come from strangers: they run in Jinja's immutable sandbox, with no loader and nothing of ours in reach.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core.job import ChatMessage

MAX_PROMPT_CHARACTERS = 4 << 20


class TemplateRefused(Exception):
    """The template itself rejects these messages (roles out of turn, say); the message is the template's own."""


class TemplateBroken(Exception):
    """The template cannot be read or run here."""


class ChatTemplate:
    """One compiled template. Raises TemplateBroken when it is not valid Jinja."""

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        self._tokens = {"bos_token": bos, "eos_token": eos}
        try:
            self._template = environment.from_string(source)
        except (TemplateError, RecursionError, MemoryError) as error:
            raise TemplateBroken(type(error).__name__) from error

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt, ending where the assistant's answer begins. Raises TemplateRefused or TemplateBroken."""
        turns = [{"role": m.role, "content": m.content} for m in messages]
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate(messages=turns, add_generation_prompt=True, **self._tokens):
                size += len(part)
                if size > MAX_PROMPT_CHARACTERS:
                    raise TemplateRefused("The prompt is too long.")
                parts.append(part)
        except TemplateRefused:
            raise
        except Exception as error:  # noqa: BLE001  a template is a stranger's program: whatever it raises ends here
            raise TemplateBroken(type(error).__name__) from error
        return "".join(parts)


def _refuse(message: str) -> None:
    raise TemplateRefused(str(message))


def _to_json(value: Any, indent: int | None = None, **_options: object) -> str:
    """As transformers' templates expect it: plain JSON, not Jinja's own escaped for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
