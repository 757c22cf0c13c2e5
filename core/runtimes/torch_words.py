"""A model's words for torch: text to tokens and back, and its chat template, from a folder's tokenizer or from a GGUF.

A GGUF's are llama.cpp's own, so that both runtimes cut a text alike. Never lets what people write make a token that
marks a turn.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from core.runtimes.chat_template import ChatTemplate, TemplateBroken, TemplateRefused
from core.runtimes.grammar import GrammarWords
from core.runtimes.llama_log import LlamaLog
from core.runtimes.llama_model import LlamaModel
from core.runtimes.runtime import RuntimeFault
from core.runtimes.torch_files import read_json
from core.runtimes.turn_marks import TurnMarks
from core.worker.messages import Count, FaultKind, Generate

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Tokens that end a turn whatever the config says, as llama.cpp knows them too.
TURN_ENDS = {"<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "</s>"}
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"
_LAST_STAND_IN = 256 + 67


class Words(Protocol):
    """What the torch runtime asks of a vocabulary. ends are the tokens that end a turn, suppressed are never drawn."""

    @property
    def size(self) -> int:
        """How many tokens there are."""

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """The tokens that end the model's turn."""

    @property
    def suppressed(self) -> tuple[int, ...]:
        """The tokens that are never to be drawn."""

    @property
    def grammar_words(self) -> GrammarWords:
        """The vocabulary as grammars read it."""

    def piece(self, token: int) -> bytes | None:
        """The bytes that a token stands for (a control token: none), or None when it ends the model's turn."""

    def tokenize(self, text: str) -> list[int]:
        """A text as it stands, as tokens, with the model's own begin token if it wants one."""

    def prompt_of(self, asked: Generate | Count) -> list[int]:
        """A request as prompt tokens. Raises RuntimeFault (BAD_REQUEST)."""

    def close(self) -> None:
        """Let go of the file."""


class GgufWords:
    """The words of a GGUF, whose weights llama.cpp does not load for it."""

    def __init__(self, path: Path) -> None:
        self._log = LlamaLog()
        try:
            self._model = LlamaModel(str(path), log=self._log)
        except RuntimeFault:
            self._log.close()
            raise
        self.size = self._model.vocabulary
        self.ends = self._model.ends
        self.suppressed = self._model.suppressed

    @property
    def grammar_words(self) -> GrammarWords:
        """The vocabulary as grammars read it."""
        return self._model.grammar_words

    def piece(self, token: int) -> bytes | None:
        """The bytes that a token stands for (a control token: none), or None when it ends the model's turn."""
        return self._model.piece(token) if token < self.size else b""

    def tokenize(self, text: str) -> list[int]:
        """A text as it stands, as tokens."""
        return self._model.words.tokenize(text)

    def prompt_of(self, asked: Generate | Count) -> list[int]:
        """A request as prompt tokens. Raises RuntimeFault (BAD_REQUEST)."""
        return self._model.prompt_of(asked)

    def close(self) -> None:
        """Let go of the file."""
        self._model.close()
        self._log.close()


class FolderWords:
    """The words of a folder's tokenizer.json. ends come from its configs and from what such tokens are called."""

    def __init__(self, folder: Path, *, ends: set[int]) -> None:
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise RuntimeFault(FaultKind.BAD_FILE, "The model's folder has no tokenizer.json.")
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as error:  # noqa: BLE001  the tokenizers library raises plain Exceptions
            raise RuntimeFault(FaultKind.BAD_FILE, "The model's tokenizer.json cannot be read.") from error
        config = folder / "tokenizer_config.json"
        self._config = read_json(config) if config.exists() else {}
        self._added: dict[int, Any] = self._tokenizer.get_added_tokens_decoder()
        self._is_bytes = "ByteLevel" in repr(self._tokenizer.decoder)
        self.size = int(self._tokenizer.get_vocab_size())
        self.suppressed: tuple[int, ...] = ()
        named = {token for token, added in self._added.items() if added.content in TURN_ENDS}
        eos = self._tokenizer.token_to_id(self._special("eos_token"))
        own = ends | ({eos} if eos is not None else set())
        self.ends = np.array(sorted(token for token in own | named if 0 <= token < self.size), np.int64)
        self._ends = frozenset(self.ends.tolist())
        self._source = self._template_source(folder)
        self._template = self._open_template()

    @cached_property
    def grammar_words(self) -> GrammarWords:
        """The vocabulary as grammars read it."""
        return GrammarWords([self._bytes(token) for token in range(self.size)], ends=self.ends.tolist())

    def piece(self, token: int) -> bytes | None:
        """The bytes that a token stands for (a control token: none), or None when it ends the model's turn."""
        return None if token in self._ends else self._bytes(token)

    def tokenize(self, text: str, *, is_start: bool = True) -> list[int]:
        """A text as tokens; at the start with the model's own begin token if it wants one."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        ids: list[int] = self._tokenizer.encode(clean, add_special_tokens=is_start).ids
        return ids

    def prompt_of(self, asked: Generate | Count) -> list[int]:
        """A request as prompt tokens. Raises RuntimeFault (BAD_REQUEST)."""
        if not asked.messages:
            return self.tokenize(asked.text)
        messages, cut = self._marks.cut(asked.messages)
        try:
            text = self._template.render(messages)
        except (TemplateRefused, TemplateBroken) as refusal:
            sentence = f"The model's template refuses these messages: {refusal}."
            raise RuntimeFault(FaultKind.BAD_REQUEST, sentence) from refusal
        parts = [text] if cut is None else text.split(cut)
        return [token for part in parts for token in self.tokenize(part, is_start=False)]

    def close(self) -> None:
        """Nothing is held open."""

    @cached_property
    def _marks(self) -> TurnMarks:
        written = (a.content for a in self._added.values() if a.special or a.content in self._source)
        return TurnMarks(written)

    def _bytes(self, token: int) -> bytes:
        added = self._added.get(token)
        if added is not None:
            return b"" if added.special else str(added.content).encode()
        text = self._tokenizer.id_to_token(token)
        if text is None:
            return b""
        if self._is_bytes:
            return _byte_level(text)
        found = _BYTE.fullmatch(text)
        return bytes([int(found[1], 16)]) if found else str(text).replace(_SPACE, " ").encode()

    def _special(self, name: str) -> str:
        given = self._config.get(name) or ""
        return str(given.get("content", "")) if isinstance(given, dict) else str(given)

    def _template_source(self, folder: Path) -> str:
        own = folder / "chat_template.jinja"
        if own.is_file():
            return own.read_text(encoding="utf-8", errors="replace")
        given = self._config.get("chat_template") or CHATML
        if isinstance(given, list):
            by_name = {str(t.get("name")): str(t.get("template")) for t in given if isinstance(t, dict)}
            given = by_name.get("default", CHATML)
        return str(given)

    def _open_template(self) -> ChatTemplate:
        try:
            return ChatTemplate(self._source, bos=self._special("bos_token"), eos=self._special("eos_token"))
        except TemplateBroken as error:
            raise RuntimeFault(FaultKind.BAD_FILE, "The model's chat template cannot be read.") from error


def _byte_level(text: str) -> bytes:
    """GPT-2's printable stand-ins back to the bytes that they stand for: printable bytes are themselves, the others
    are numbered from 256 on in their order."""
    codes = [ord(letter) for letter in text]
    return text.encode() if max(codes, default=0) > _LAST_STAND_IN else bytes(map(_byte_of, codes))


def _byte_of(code: int) -> int:
    if code < 256:
        return code
    place = code - 256
    if place <= 32:
        return place
    return 127 + place - 33 if place <= 66 else 173
