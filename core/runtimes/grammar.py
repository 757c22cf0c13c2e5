"""Hold an answer to a grammar: a JSON Schema, or a text in llama.cpp's GBNF.

Grammars come from strangers. llama.cpp's own matcher follows every ambiguity at once, without a bound, and ends the
process when it is at its wits' end; llguidance (an Earley parser over lexemes) does so much work a token and no more,
and says so. Never fetches a schema, and never repeats a grammar's text in an error.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from core.job import Sampling
from core.runtimes.gbnf import GbnfRefused, gbnf_to_lark
from core.runtimes.runtime import RuntimeFault
from core.runtimes.schema_limits import closed_schema, schema_refusal
from core.worker.messages import FaultKind

# llguidance's own figures: 20 items or 14 units of fuel a microsecond for one token, 50 units for a whole grammar.
STEP_ITEMS = 100_000
STEP_FUEL = 200_000
START_FUEL = 1_000_000
# Each optional property of a schema takes three; with GBNF so many are ambiguity, and work grows with their square.
SCHEMA_ROW_ITEMS = 1_000
GBNF_ROW_ITEMS = 500
LEXER_STATES = 50_000
GRAMMAR_SYMBOLS = 100_000
MAX_GRAMMAR_BYTES = 64 << 10
# Neighbours in the batch wait meanwhile: an answer is given up whose grammar takes this longer than it may a token.
MOST_SECONDS = 1.0
SECONDS_A_TOKEN = 0.02
SPECIAL_MARK = b"\xff"
TOO_MUCH = "The grammar leads to more possibilities than this worker follows; ask for a simpler one."
# As llama.cpp writes JSON: a small model left free fills its answer with blanks.
JSON_SPACE = r"( |\n{1,2}[ \t]{0,20})?"
NOT_FOLLOWED = (
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
)

Mask = npt.NDArray[np.bool_]


class GrammarWords:
    """A model's vocabulary in the form that grammars read. pieces are the tokens' bytes, empty for control tokens."""

    def __init__(self, pieces: Sequence[bytes], *, ends: Sequence[int]) -> None:
        self.size = len(pieces)
        self.ends = frozenset(ends)
        named = [piece or SPECIAL_MARK + b"<|%d|>" % token for token, piece in enumerate(pieces)]
        self.tokenizer = LLTokenizer(TokenizerWrapper(_Pieces(named, ends)), n_vocab=len(named), eos_token=list(ends))


class Grammar:
    """Where one answer stands in its grammar. Every call raises RuntimeFault when the grammar cannot be followed."""

    def __init__(self, grammar: str, words: GrammarWords, *, row_items: int) -> None:
        self._words = words
        self._left_s = MOST_SECONDS
        self._matcher = LLMatcher(words.tokenizer, grammar, log_level=0, limits=_limits(row_items))
        if self._matcher.is_error():
            raise RuntimeFault(FaultKind.BAD_REQUEST, _reason(self._matcher.get_error()))

    def allows(self, token: int) -> bool:
        """May this token come next? One microsecond; ask before mask."""
        if self._matcher.is_stopped():
            return token in self._words.ends
        began = time.perf_counter()
        allowed: int = self._matcher.validate_tokens([token])
        self._check(began)
        return allowed == 1

    def mask(self) -> Mask:
        """Which tokens may come next: bool [vocabulary]."""
        began = time.perf_counter()
        raw = self._matcher.compute_bitmask()
        self._check(began)
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=self._words.size, bitorder="little")
        return bits.view(np.bool_)

    def accept(self, token: int) -> None:
        """Go on behind a token that allows or mask let through."""
        began = time.perf_counter()
        self._left_s = min(MOST_SECONDS, self._left_s + SECONDS_A_TOKEN)
        is_on = self._matcher.is_stopped() or self._matcher.consume_token(token)
        self._check(began)
        if not is_on:
            raise RuntimeFault(FaultKind.INTERNAL, "The grammar refused its own token.")

    def _check(self, began: float) -> None:
        self._left_s -= time.perf_counter() - began
        if self._matcher.is_error() or self._left_s < 0:
            raise RuntimeFault(FaultKind.BAD_REQUEST, TOO_MUCH)


def open_grammar(sampling: Sampling, words: GrammarWords) -> Grammar:
    """The grammar that this sampling asks for. Raises RuntimeFault (BAD_REQUEST) when it cannot be read."""
    if sampling.json_schema:
        return Grammar(_schema_grammar(sampling.json_schema), words, row_items=SCHEMA_ROW_ITEMS)
    if len(sampling.grammar.encode("utf-8", "replace")) > MAX_GRAMMAR_BYTES:
        raise RuntimeFault(FaultKind.BAD_REQUEST, f"The grammar is larger than {MAX_GRAMMAR_BYTES >> 10} KiB.")
    try:
        lark = gbnf_to_lark(sampling.grammar)
    except GbnfRefused as refused:
        raise RuntimeFault(FaultKind.BAD_REQUEST, str(refused)) from refused
    return Grammar(LLMatcher.grammar_from_lark(lark), words, row_items=GBNF_ROW_ITEMS)


class _Pieces:
    """What LLTokenizer asks of a tokenizer: grammars here name no tokens by text, so it may split by bytes."""

    def __init__(self, tokens: list[bytes], ends: Sequence[int]) -> None:
        self.tokens = tokens
        self.special_token_ids: list[int] = []
        self.eos_token_id = ends[0] if ends else 0
        self.bos_token_id: int | None = None
        self._by_piece = {piece: token for token, piece in enumerate(tokens) if len(piece) == 1}

    def __call__(self, text: bytes | str) -> list[int]:
        raw = text.encode() if isinstance(text, str) else text
        return [self._by_piece[raw[i : i + 1]] for i in range(len(raw)) if raw[i : i + 1] in self._by_piece]


def _limits(row_items: int) -> LLParserLimits:
    return LLParserLimits(
        max_items_in_row=row_items,
        initial_lexer_fuel=START_FUEL,
        step_lexer_fuel=STEP_FUEL,
        step_max_items=STEP_ITEMS,
        max_lexer_states=LEXER_STATES,
        max_grammar_size=GRAMMAR_SYMBOLS,
        verbose_errors=False,
    )


def _schema_grammar(schema: str) -> str:
    if refusal := schema_refusal(schema):
        raise RuntimeFault(FaultKind.BAD_REQUEST, refusal)
    closed = closed_schema(schema)
    try:
        made: str = LLMatcher.grammar_from_json_schema(closed, overrides={"whitespace_pattern": JSON_SPACE})
    except ValueError as error:
        raise RuntimeFault(FaultKind.BAD_REQUEST, "The JSON schema cannot be read.") from error
    return made


def _reason(error: str) -> str:
    """In our own words: the library's quote the requester's."""
    unknown = sorted(word for word in NOT_FOLLOWED if f'"{word}"' in error)
    if "nimplemented" in error and unknown:
        return f"This worker cannot follow {', '.join(unknown)} in a JSON schema."
    return "This worker cannot follow this grammar or JSON schema."
