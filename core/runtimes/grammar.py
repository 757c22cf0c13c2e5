"""Hold an answer to a grammar: a JSON Schema, or a text in llama.cpp's GBNF.

Grammars come from strangers. llama.cpp's own matcher follows every ambiguity at once, without a bound, and ends the
process when it is at its wits' end; llguidance (an Earley parser over lexemes) does so much work a token and no more,
and says so. Never fetches a schema, and never repeats a grammar's text in an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from llguidance.gbnf_to_lark import gbnf_to_lark

from core.job import Sampling
from core.runtimes.grammar_limits import gbnf_refusal, schema_refusal
from core.runtimes.runtime import RuntimeFault
from core.worker.messages import FaultKind

# About 20 ms of work for one token, and 100 ms and a few megabytes for a whole grammar, on a slow core.
STEP_ITEMS = 20_000
STEP_FUEL = 100_000
START_FUEL = 1_000_000
ROW_ITEMS = 1_000
LEXER_STATES = 20_000
GRAMMAR_SYMBOLS = 50_000
SPECIAL_MARK = b"\xff"
TOO_MUCH = "The grammar leads to more possibilities than this worker follows; ask for a simpler one."

Mask = npt.NDArray[np.bool_]


class GrammarWords:
    """A model's vocabulary in the form that grammars read. pieces are the tokens' bytes, empty for control tokens."""

    def __init__(self, pieces: Sequence[bytes], *, ends: Sequence[int]) -> None:
        self.size = len(pieces)
        self.ends = frozenset(ends)
        named = [piece or SPECIAL_MARK + b"<|%d|>" % token for token, piece in enumerate(pieces)]
        self.tokenizer = LLTokenizer(TokenizerWrapper(_Pieces(named, ends)), n_vocab=len(named), eos_token=list(ends))


class Grammar:
    """Where one answer stands in its grammar. Every call raises RuntimeFault when the grammar can not be followed."""

    def __init__(self, grammar: str, words: GrammarWords) -> None:
        self._words = words
        self._matcher = LLMatcher(words.tokenizer, grammar, log_level=0, limits=_limits())
        if self._matcher.is_error():
            raise RuntimeFault(FaultKind.BAD_REQUEST, _reason(self._matcher.get_error()))

    def allows(self, token: int) -> bool:
        """May this token come next? One microsecond; ask before mask."""
        if self._matcher.is_stopped():
            return token in self._words.ends
        allowed: int = self._matcher.validate_tokens([token])
        self._check()
        return allowed == 1

    def mask(self) -> Mask:
        """Which tokens may come next: bool [vocabulary]."""
        raw = self._matcher.compute_bitmask()
        self._check()
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=self._words.size, bitorder="little")
        return bits.view(np.bool_)

    def accept(self, token: int) -> None:
        """Go on behind a token that allows or mask let through."""
        if not self._matcher.is_stopped() and not self._matcher.consume_token(token):
            self._check()
            raise RuntimeFault(FaultKind.INTERNAL, "The grammar refused its own token.")

    def _check(self) -> None:
        if self._matcher.is_error():
            raise RuntimeFault(FaultKind.BAD_REQUEST, TOO_MUCH)


def open_grammar(sampling: Sampling, words: GrammarWords) -> Grammar:
    """The grammar that this sampling asks for. Raises RuntimeFault (BAD_REQUEST) when it can not be read."""
    refusal = schema_refusal(sampling.json_schema) if sampling.json_schema else gbnf_refusal(sampling.grammar)
    if refusal:
        raise RuntimeFault(FaultKind.BAD_REQUEST, refusal)
    if sampling.json_schema:
        return Grammar(LLMatcher.grammar_from_json_schema(sampling.json_schema), words)
    return Grammar(LLMatcher.grammar_from_lark(_to_lark(sampling.grammar)), words)


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


def _limits() -> LLParserLimits:
    return LLParserLimits(
        max_items_in_row=ROW_ITEMS,
        initial_lexer_fuel=START_FUEL,
        step_lexer_fuel=STEP_FUEL,
        step_max_items=STEP_ITEMS,
        max_lexer_states=LEXER_STATES,
        max_grammar_size=GRAMMAR_SYMBOLS,
        verbose_errors=False,
    )


def _to_lark(grammar: str) -> str:
    try:
        lark: Any = gbnf_to_lark(grammar)
    except Exception as error:  # noqa: BLE001  a stranger's text in another's converter: whatever it raises ends here
        raise RuntimeFault(FaultKind.BAD_REQUEST, "The grammar is not valid GBNF.") from error
    return str(lark)


def _reason(error: str) -> str:
    first = error.strip().splitlines()[0][:160].rstrip(".") if error.strip() else "it can not be read"
    return f"The grammar or schema can not be used: {first}."
