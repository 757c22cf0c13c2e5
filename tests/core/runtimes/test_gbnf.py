"""Laws of reading llama.cpp's grammar notation."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.job import Sampling
from core.runtimes.gbnf import GbnfRefused, gbnf_to_lark
from core.runtimes.grammar import Grammar, GrammarWords, open_grammar
from core.runtimes.runtime import RuntimeFault
from core.worker.messages import FaultKind

END = 256
JSON = r"""
root ::= object   # as in llama.cpp's own grammars
object ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? "}" ws
value ::= object | array | string | number | ("true" | "false" | "null") ws
array ::= "[" ws (
  value
  ("," ws value)*
)? "]" ws
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" ws
number ::= "-"? ([0-9] | [1-9] [0-9]{0,15}) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,3})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""


@pytest.fixture(scope="module")
def words() -> GrammarWords:
    return GrammarWords([bytes([b]) for b in range(256)] + [b""], ends=[END])


def _grammar(text: str, words: GrammarWords) -> Grammar:
    return open_grammar(Sampling(grammar=text), words)


def _obeys(text: str, grammar: Grammar) -> bool:
    for byte in text.encode():
        if not grammar.allows(byte):
            return False
        grammar.accept(byte)
    return grammar.allows(END)


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        ('root ::= "yes" | "no"', ["yes", "no"], ["", "y", "yesno", "maybe"]),
        (r'root ::= "\u0041\u0430\x42\U0001F600"', ["AаB😀"], ["A"]),
        ("root ::= [\\u0041-\\u005A]+ [.]", ["A.", "QUIZ."], ["a.", "A"]),
        (r'root ::= [^"\\] "\n"', ["é\n", "a\n"], ['"\n', "\\\n"]),
        ("root ::= [a-]{2}", ["--", "a-"], ["b-", "-"]),
        ("root ::= [一-龥]{1,2} .", ["日本x", "日é"], ["xx"]),
        ('root ::= a-b | A-b\na-b ::= "x"\nA-b ::= "y"', ["x", "y"], ["z"]),
        ('root ::= "" | "z"', ["", "z"], ["zz"]),
        ('root ::= "a"{0} "b"{2,}', ["bb", "bbbb"], ["abb", "b"]),
        ('root ::= x "abc"\nx ::= [a-z]*', ["abc", "zabc", "abcabc"], ["ab", "abcd"]),
        ('root ::= [a-z]+ "1" | [a-f] "b2"', ["ab1", "ab2"], ["zb2"]),
        ('root ::= root "a" | "a"', ["a", "aaa"], ["", "b"]),
        ('root ::= "a" "b"*?', ["a", "abbb"], ["b"]),
        ("root ::= " + "(" * 31 + '"a"' + ")?" * 31, ["", "a"], ["aa"]),
        (JSON, ['{"a": [1, -2.5e3, null], "é": {}}', '{"\\u00e9": "\\n"}'], ["{", "[1]", '{"a" 1}', '{"a": 01}']),
    ],
)
def test_a_grammar_allows_its_language_and_nothing_else(
    grammar: str, good: list[str], bad: list[str], words: GrammarWords
) -> None:
    assert [text for text in good if not _obeys(text, _grammar(grammar, words))] == []
    assert [text for text in bad if _obeys(text, _grammar(grammar, words))] == []


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("", "no rule"),
        ('a ::= "b"', "no rule"),
        ("root ::= missing", "not define"),
        ('root ::= "open', "cannot be read at its line 1"),
        ('root ::= "a"\nroot2 := "b"', "line 2"),
        ('root ::= "a"\n| "b"', "line 2"),
        ('root ::= * "a"', "line 1"),
        ('root ::= ("a"', "line 1"),
        (r'root ::= "\q"', "line 1"),
        ("root ::= []", "class without letters"),
        ("root ::= [z-a]", "empty"),
        (r'root ::= "\uD800"', "does not exist"),
        ("root ::= <think>", "names tokens"),
        ('root ::= "a"{1,1000000}', "2000 repetitions"),
        ('root ::= "a"{3,1}', "fewer"),
        ('root ::= (("a"{1,1000}){1,1000}){1,1000}', "too large"),
        ("root ::= " + " | ".join(["[a-z]"] * 5_000), "choice of more"),
        ('root ::= "a"' + "?" * 19_000, "too large"),
        ("root ::= " + "(" * 30_000 + '"a"' + ")" * 30_000, "nested deeper"),
        ("".join(f'r{n} ::= "a"\n' for n in range(5_000)), "too large"),
    ],
)
def test_what_is_no_grammar_or_too_large_is_refused_with_a_reason(grammar: str, reason: str) -> None:
    with pytest.raises(GbnfRefused, match=reason):
        gbnf_to_lark(grammar)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text('root ::="ab[]()|*+?{1,2}\\xu-^.#\n<!', max_size=60))
def test_any_text_is_read_or_refused_in_a_sentence(words: GrammarWords, text: str) -> None:
    try:
        _grammar("root ::= " + text, words).mask()
    except RuntimeFault as refused:
        assert refused.kind is FaultKind.BAD_REQUEST and refused.message.endswith(".")
