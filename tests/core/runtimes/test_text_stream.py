"""Laws of the text of one sequence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.runtimes.text_stream import TextStream


def _cut(raw: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({0, len(raw), *(a % (len(raw) + 1) for a in at)})
    return [raw[a:b] for a, b in zip(edges, edges[1:], strict=False)]


@given(st.text(), st.lists(st.integers(0, 200)))
def test_any_cut_of_the_bytes_gives_the_same_text_and_no_half_character(text: str, at: list[int]) -> None:
    stream = TextStream()
    parts = [stream.feed(piece) for piece in _cut(text.encode("utf-8", "replace"), at)]
    assert "".join(parts) + stream.finish() == text.encode("utf-8", "replace").decode()
    assert all("�" not in part for part in parts) or "�" in text


@given(st.text("ab<|>"), st.sampled_from(["<|b|>", "aab", "ba"]), st.lists(st.integers(0, 60)))
def test_text_ends_before_the_first_stop_string_however_it_is_cut(text: str, stop: str, at: list[int]) -> None:
    stream = TextStream((stop,))
    out = "".join(stream.feed(piece) for piece in _cut(text.encode(), at))
    assert out + stream.finish() == text.partition(stop)[0]
    assert stream.is_stopped == (stop in text)


def test_a_possible_stop_string_is_held_back_and_released_when_it_is_none() -> None:
    stream = TextStream(("END",))
    assert stream.feed(b"yes E") == "yes "
    assert stream.feed(b"N") == ""
    assert stream.feed(b"ough") == "ENough"


def test_a_character_over_three_tokens_comes_out_whole() -> None:
    stream = TextStream()
    assert [stream.feed(bytes([b])) for b in "€".encode()] == ["", "", "€"]


def test_an_unfinished_character_at_the_end_is_dropped() -> None:
    stream = TextStream()
    assert stream.feed("a€".encode()[:-1]) == "a"
    assert stream.finish() == ""
