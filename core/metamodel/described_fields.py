"""The fields of a device's description: what each is in plain words, its unit, and what it may be.

Pure: parsed JSON in, checked values out. Never guesses what was meant.
"""

from __future__ import annotations

from typing import Any

import msgspec

from core.device import DeviceKind

_MOST_LETTERS = 100


class Field(msgspec.Struct, frozen=True):
    """words name it to its author. most > 0: a number up to that, in this unit, above zero unless is_zero_fine; else a
    text, of which allowed lists the values if not all will do."""

    name: str
    words: str
    most: float = 0.0
    unit: str = ""
    is_needed: bool = False
    is_zero_fine: bool = False
    is_whole: bool = False
    allowed: tuple[str, ...] = ()


DEVICE_FIELDS = (
    Field("name", "the device's name", is_needed=True),
    Field("memory_gib", "its memory", 2048, "GiB", is_needed=True),
    Field("bandwidth_gbs", "its memory bandwidth", 50_000, "GB/s", is_needed=True),
    Field("matrix_tflops", "its half-precision matrix rate", 100_000, "TFLOP/s", is_needed=True),
    Field("kind", "what it is", allowed=tuple(kind.value for kind in DeviceKind)),
    Field("backend", "llama.cpp's name of its backend"),
    Field("free_gib", "its free memory", 2048, "GiB", is_zero_fine=True),
    Field("power_w", "the most that it draws", 100_000, "W", is_zero_fine=True),
)
MACHINE_FIELDS = (
    Field("cpu_cores", "the processor's cores", 1024, is_whole=True),
    Field("ram_gib", "the computer's memory", 65_536, "GiB"),
    Field("free_ram_gib", "how much of its memory is free", 65_536, "GiB", is_zero_fine=True),
    Field("torch", "torch's version"),
)


def checked(plain: dict[str, Any], fields: tuple[Field, ...]) -> dict[str, Any]:
    """The values by name, texts without control characters. Raises ValueError with the field and what it must be."""
    known = {field.name: field for field in fields}
    strange = next((name for name in plain if name not in known), None)
    if strange is not None:
        raise ValueError(f"{_clean(strange)[:_MOST_LETTERS]} is no field of it; there are {', '.join(known)}.")
    missing = next((field for field in fields if field.is_needed and plain.get(field.name) is None), None)
    if missing is not None:
        raise ValueError(f"{missing.name} is missing: {_wanted(missing)}.")
    return {name: _value(value, known[name]) for name, value in plain.items() if value is not None}


def _value(value: object, field: Field) -> Any:
    if not field.most:
        return _text(value, field)
    is_number = isinstance(value, int if field.is_whole else int | float) and not isinstance(value, bool)
    if is_number and (0 if field.is_zero_fine else 1e-3) <= value <= field.most:  # type: ignore[operator]
        return value
    raise ValueError(f"{field.name} cannot be {_shown(value)}: {_wanted(field)}.")


def _text(value: object, field: Field) -> object:
    text = _clean(value).strip() if isinstance(value, str) else ""
    if field.allowed:
        text = text.lower()
    if not text and not field.is_needed and value == "":
        return ""
    if not text or len(text) > _MOST_LETTERS or (field.allowed and text not in field.allowed):
        raise ValueError(f"{field.name} cannot be {_shown(value)}: {_wanted(field)}.")
    return DeviceKind(text) if field.name == "kind" else text


def _wanted(field: Field) -> str:
    """Such as "its memory in GiB, above 0 and at most 2048"."""
    if field.allowed:
        return f"{field.words}, one of {', '.join(field.allowed)}"
    if not field.most:
        return f"{field.words}, a text of up to {_MOST_LETTERS} letters"
    unit = f" in {field.unit}" if field.unit else ""
    number = "a whole number" if field.is_whole else "a number"
    least = "from 0" if field.is_zero_fine else "above 0"
    return f"{field.words}{unit}, {number} {least} and at most {field.most:,.0f}"


def _shown(value: object) -> str:
    text = _clean(repr(value) if isinstance(value, str) else msgspec.json.encode(value).decode())
    return text if len(text) <= 40 else f"{text[:39]}…"


def _clean(text: str) -> str:
    """Without what a terminal would obey instead of showing it."""
    return "".join(letter for letter in text if letter.isprintable())
