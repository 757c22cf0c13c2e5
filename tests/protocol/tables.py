"""Tables of the document: each struct with its fields, as Markdown. Made from the structs, so they cannot differ."""

from __future__ import annotations

import enum
import re
import sys
from typing import Any

import msgspec
from msgspec import inspect

from core.framing import encode_frame
from tests.protocol.spoken import PROTOCOLS, Spoken, fields_of, structs_of
from tests.protocol.words import MEANINGS


def protocol_tables(spoken: Spoken) -> str:
    """Who says what, then every struct that no earlier protocol of the document has shown."""
    shown = {kind for earlier in PROTOCOLS[: PROTOCOLS.index(spoken)] for kind in structs_of(earlier)}
    parts = [_voices(spoken)]
    parts += [struct_table(kind) for kind in structs_of(spoken) if kind not in shown]
    return "\n\n".join(parts)


def struct_table(kind: type[msgspec.Struct]) -> str:
    """One struct: its name, its tag, what it is for and its fields."""
    tag = kind.__struct_config__.tag
    head = f"#### {kind.__name__}" + (f' (`"type": "{tag}"`)' if tag else "")
    rows = [_row(kind, field) for field in fields_of(kind)]
    table = "\n".join(["| key | value | when absent | meaning |", "|---|---|---|---|", *rows])
    return f"{head}\n\n{_purpose(kind)}\n\n{table if rows else 'It has no keys but its type.'}"


def _purpose(kind: type[msgspec.Struct]) -> str:
    """Its docstring, with the program's names of numbers as those numbers."""
    text = " ".join((kind.__doc__ or "").split()).replace("None", "null")
    known = vars(sys.modules[kind.__module__])
    return re.sub(r"\bMAX_[A-Z_]+\b", lambda name: f"{known[name[0]]:,}", text)


def _voices(spoken: Spoken) -> str:
    rows = []
    for voice in (spoken.asks, spoken.answers):
        names = ", ".join(f"[{kind.__name__}](#{_anchor(kind)})" for kind in voice.kinds)
        rows.append(f"| {voice.who} | {names} | {voice.most:,} |")
    return "\n".join([f"`{spoken.name}`", "", "| who | may say | longest frame, bytes |", "|---|---|---|", *rows])


def _anchor(kind: type[msgspec.Struct]) -> str:
    """As GitHub makes one of a heading."""
    tag = kind.__struct_config__.tag
    return f"{kind.__name__}-type-{tag}".lower() if tag else kind.__name__.lower()


def _row(kind: type[msgspec.Struct], field: inspect.Field) -> str:
    meaning = MEANINGS[kind.__name__][field.name]
    return f"| `{field.encode_name}` | {_type(field.type)} | {_absence(kind, field)} | {meaning} |"


def _absence(kind: type[msgspec.Struct], field: inspect.Field) -> str:
    if field.required:
        return "malformed"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"`{_spelled(value)}`"


def _spelled(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else "its own defaults"


def _type(kind: inspect.Type) -> str:
    match kind:
        case inspect.StructType(cls=cls):
            return f"[{cls.__name__}](#{_anchor(cls)})"
        case inspect.EnumType(cls=cls):
            return " or ".join(f'`"{one.value}"`' for one in cls) if issubclass(cls, enum.Enum) else cls.__name__
        case inspect.VarTupleType(item_type=inner):
            return f"array of {_type(inner)}{_size(kind.min_length, kind.max_length)}"
        case inspect.TupleType(item_types=inners):
            return f"array [{', '.join(map(_type, inners))}]"
        case inspect.UnionType(types=inners):
            return " or ".join(map(_type, inners))
        case inspect.Metadata(type=inner):
            return _type(inner)
        case inspect.NoneType():
            return "null"
        case inspect.StrType(min_length=least, max_length=most, pattern=pattern):
            shape = f" matching `{pattern.removesuffix(chr(92) + 'Z')}$`" if pattern else ""
            return f"string{_size(least, most)}{shape}"
        case inspect.IntType():
            return f"integer{_bounds(kind)}"
        case inspect.FloatType():
            return f"float{_bounds(kind)}"
        case inspect.BoolType():
            return "true or false"
        case _:
            raise TypeError(f"the document has no word for {kind}")


def _size(least: int | None, most: int | None) -> str:
    if most is None:
        return "" if not least else f", at least {least}"
    return f", {least or 0} to {most:,}"


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    low = f"{kind.ge:,} <= " if kind.ge is not None else f"{kind.gt:,} < " if kind.gt is not None else ""
    high = f" <= {kind.le:,}" if kind.le is not None else f" < {kind.lt:,}" if kind.lt is not None else ""
    return f", {low}n{high}" if low or high else ""


def frame_example(message: msgspec.Struct) -> str:
    """One message as the bytes of its frame: the length in hex, then the JSON."""
    frame = encode_frame(message)
    start = next(index for index, byte in enumerate(frame) if byte < 0x80) + 1
    return f"{frame[:start].hex(' ')}  {frame[start:].decode()}"
