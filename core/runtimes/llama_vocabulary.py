"""A model's words: text to tokens and back, and which tokens end a turn, mark one, or are never to be drawn.

Never lets a text that is not the template's make a token that marks a turn.
"""

from __future__ import annotations

import ctypes
from functools import cached_property

import llama_cpp.llama_cpp as C  # noqa: N812
import numpy as np
import numpy.typing as npt

from core.runtimes.grammar import GrammarWords
from core.runtimes.runtime import RuntimeFault
from core.worker.messages import FaultKind

MAX_PIECE_BYTES = 4096
_CONTROL = C.LLAMA_TOKEN_ATTR_CONTROL | C.LLAMA_TOKEN_ATTR_UNKNOWN


class LlamaVocabulary:
    """The words of an open model; valid as long as that is open."""

    def __init__(self, model: C.llama_model_p) -> None:
        self._vocab = C.llama_model_get_vocab(model)
        self._pieces: dict[int, bytes | None] = {}
        self._buffer = ctypes.create_string_buffer(MAX_PIECE_BYTES)
        self._adds_bos = bool(C.llama_vocab_get_add_bos(self._vocab))
        self.size = int(C.llama_vocab_n_tokens(self._vocab))
        self.bos = self.special(C.llama_vocab_bos(self._vocab))
        self.eos = self.special(C.llama_vocab_eos(self._vocab))
        self.suppressed = self._read_suppressed()

    @cached_property
    def ends(self) -> npt.NDArray[np.int64]:
        """The tokens that end the model's turn, rising."""
        return np.array([t for t in range(self.size) if C.llama_vocab_is_eog(self._vocab, t)], np.int64)

    @cached_property
    def grammar_words(self) -> GrammarWords:
        """The vocabulary as grammars read it: made at the first grammar, about a second for 128k tokens."""
        ends = self.ends.tolist()
        pieces = [self._to_piece(token, is_special=False) for token in range(self.size)]
        return GrammarWords(pieces, ends=ends)

    @cached_property
    def control_texts(self) -> tuple[str, ...]:
        """How the control tokens are written, longest first."""
        texts = {self.special(t) for t in range(self.size) if self._attributes(t) & _CONTROL}
        return tuple(sorted(filter(None, texts), key=lambda text: (-len(text), text)))

    @cached_property
    def added_texts(self) -> tuple[str, ...]:
        """How the tokens are written that the model's makers have added to the plain ones without calling them control
        tokens; longest first."""
        added = C.LLAMA_TOKEN_ATTR_USER_DEFINED
        texts = {self.special(t) for t in range(self.size) if self._attributes(t) & added}
        return tuple(sorted(filter(None, texts), key=lambda text: (-len(text), text)))

    def piece(self, token: int) -> bytes | None:
        """The bytes that a token stands for (a control token: none), or None when it ends the model's turn."""
        if token not in self._pieces:
            is_end = C.llama_vocab_is_eog(self._vocab, token)
            self._pieces[token] = None if is_end else self._to_piece(token, is_special=False)
        return self._pieces[token]

    def written(self, token: int) -> bytes:
        """The bytes that a token is written with, those of a control token too."""
        return self._to_piece(token, is_special=True)

    def special(self, token: int) -> str:
        """How a token is written, as text; empty for none (-1)."""
        return self.written(token).decode("utf-8", "replace") if token >= 0 else ""

    def tokenize(self, text: str, *, is_start: bool = True) -> list[int]:
        """A rendered prompt as tokens, control tokens among them; at the start of a prompt the model's own begin token
        is put first if it wants one, and once. Raises RuntimeFault (BAD_REQUEST)."""
        if is_start and self._adds_bos and self.bos and text.startswith(self.bos):
            text = text[len(self.bos) :]
        raw = text.encode("utf-8", "replace")
        room = len(raw) + 8
        tokens = (C.llama_token * room)()
        count = C.llama_tokenize(self._vocab, raw, len(raw), tokens, room, is_start, True)
        if count < 0:
            raise RuntimeFault(FaultKind.BAD_REQUEST, "The prompt cannot be read by this model's tokenizer.")
        return list(tokens[:count])

    def tokenize_cut(self, text: str, cut: str) -> list[int]:
        """A rendered prompt as if the letter cut were not in it, yet with no control token across a cut.

        A sentence-piece tokenizer puts a space before every text that it is given, so there the letter is read with
        the rest and its tokens dropped; no piece holds it beside another. Raises RuntimeFault (BAD_REQUEST)."""
        if C.llama_vocab_type(self._vocab) != C.LLAMA_VOCAB_TYPE_SPM:
            first, *others = text.split(cut)
            return self.tokenize(first) + [t for part in others for t in self.tokenize(part, is_start=False)]
        dropped = [t for t in self.tokenize(cut, is_start=False) if self.piece(t) != b" "]
        return _without(self.tokenize(text), dropped)

    def _attributes(self, token: int) -> int:
        return int(C.llama_vocab_get_attr(self._vocab, token))

    def _read_suppressed(self) -> tuple[int, ...]:
        count = ctypes.c_int32(0)
        tokens = C.llama_vocab_get_suppress_tokens(self._vocab, ctypes.byref(count))
        return tuple(int(t) for t in tokens[: count.value]) if count.value > 0 else ()

    def _to_piece(self, token: int, *, is_special: bool) -> bytes:
        length = C.llama_token_to_piece(self._vocab, token, self._buffer, MAX_PIECE_BYTES, 0, is_special)
        return self._buffer.raw[: max(0, length)]


def _without(tokens: list[int], dropped: list[int]) -> list[int]:
    kept: list[int] = []
    for token in tokens:
        kept.append(token)
        if kept[-len(dropped) :] == dropped:
            del kept[-len(dropped) :]
    return kept
