"""The frame format: what it accepts, what it refuses, and its golden bytes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.framing import FrameDecoder, FramingError, encode_frame, encode_varint


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    text: str


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    number: int


def decoder(limit: int = 1000) -> FrameDecoder[Ping | Pong]:
    return FrameDecoder(Ping | Pong, max_frame_bytes=limit)


def test_golden_bytes() -> None:
    assert encode_frame(Ping("hi")) == b'\x1b{"type":"ping","text":"hi"}'
    assert encode_varint(300) == b"\xac\x02"


@given(st.lists(st.text(max_size=50), max_size=8), st.integers(1, 40))
def test_any_split_of_the_bytes_gives_the_same_messages(texts: list[str], step: int) -> None:
    stream = b"".join(encode_frame(Ping(text)) for text in texts)
    reader = decoder()
    found = [m for i in range(0, len(stream), step) for m in reader.feed(stream[i : i + step])]
    assert found == [Ping(text) for text in texts]
    assert reader.buffered_bytes == 0


@pytest.mark.parametrize(
    "garbage",
    [b"\xff\xff\xff\xff\xff\xff", b"\x02{}", b"\x05hello", b"\x81\x7f" + b"x" * 20_000, b'\x10{"type":"other"}'],
)
def test_malformed_frames_are_refused(garbage: bytes) -> None:
    with pytest.raises(FramingError):
        decoder().feed(garbage)


def test_a_frame_over_the_limit_is_refused_before_its_body() -> None:
    with pytest.raises(FramingError, match="over the limit"):
        decoder(limit=10).feed(encode_varint(11))


def test_unknown_keys_are_ignored_on_the_wire() -> None:
    body = b'{"type":"pong","number":1,"extra":2}'
    assert decoder().feed(encode_varint(len(body)) + body) == [Pong(1)]


@given(st.binary(max_size=200))
def test_hostile_bytes_raise_nothing_but_framing_errors(garbage: bytes) -> None:
    try:
        decoder().feed(garbage)
    except FramingError:
        pass
