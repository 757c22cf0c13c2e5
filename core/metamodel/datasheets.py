"""What a device's datasheet says, for those that have not been measured here yet.

Pure. A device that is not surely in the table is not in it: near names are not taken (a rival read a P100 as an M2).
"""

from __future__ import annotations

import re

import msgspec

from core.device import Device
from core.metamodel.features import Rates

_NOISE = re.compile(r"\((?:r|tm)\)|\b(?:nvidia|amd|intel|ati|graphics|gpu)\b", re.IGNORECASE)
_VARIANT = re.compile(r"(?:\d+c)?\s*(?:\d+gb)?")


class Datasheet(msgspec.Struct, frozen=True, array_like=True):
    """Memory in GiB, bandwidth in GB/s, dense half-precision matrix rate in TFLOP/s."""

    memory_gib: float
    bandwidth_gbs: float
    matrix_tflops: float


def find(device: Device, datasheets: dict[str, Datasheet]) -> Rates | None:
    """The device's own row, or of the rows that add only cores and memory to its name the one nearest in memory."""
    name = _plain(device.name)
    gib = device.memory_bytes / 2**30
    rows = [row for title, row in datasheets.items() if _is_variant(_plain(title), name)]
    if not rows:
        return None
    nearest = min(rows, key=lambda row: abs(row.memory_gib - gib))
    return Rates(nearest.bandwidth_gbs, nearest.matrix_tflops)


def _plain(name: str) -> str:
    return " ".join(_NOISE.sub(" ", name).lower().split())


def _is_variant(title: str, name: str) -> bool:
    if not name or not title.startswith(name):
        return False
    rest = title[len(name) :]
    return not rest or (rest[0] == " " and _VARIANT.fullmatch(rest.strip()) is not None)
