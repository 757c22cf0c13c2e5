"""The grid's tables: one row for each run, one for each model file. Written a cell at a time, read whole.

Never holds a host's name or a path.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

GRID = Path(__file__).with_name("grid.csv")
MODELS = Path(__file__).with_name("grid_models.csv")


class Run(msgspec.Struct, frozen=True):
    """One method's run of one workload: seconds on the wall and of the child's processor, what the clients saw, tokens.

    Runs of one model, quantization, workload, visit and turn were made one after another. threads computed.
    """

    model: str
    quantization: str
    workload: str
    method: str
    visit: int
    turn: int
    wall_s: float
    cpu_s: float
    ttft_s: float
    ttft_p95_s: float
    stall_s: float
    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int


class Model(msgspec.Struct, frozen=True):
    """One file, and how fast it is by itself in the worker: tokens for a second of the processor, of one prompt, of one
    answer, and of four at once. kv_width: of one layer's keys; template_tokens: of a prompt beside its words."""

    model: str
    quantization: str
    file_bytes: int
    parameters: int
    layers: int
    hidden: int
    kv_width: int
    prefill: float
    decode_1: float
    decode_4: float
    template_tokens: int


T = TypeVar("T", Run, Model)


def read(path: Path, kind: type[T]) -> list[T]:
    """All rows; none when there is no file. Lines that begin with # say where the rows are from."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return [msgspec.convert(row, kind, strict=False) for row in rows]


def append(path: Path, rows: Iterable[T], *, about: str) -> None:
    """Add rows in one write; a new file begins with what it is about, and the names of its columns."""
    listed = [msgspec.structs.asdict(row) for row in rows]
    if not listed:
        return
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        if is_new:
            file.writelines(f"# {line}\n" for line in about.splitlines())
        writer = csv.DictWriter(file, list(listed[0]), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows({name: _short(value) for name, value in row.items()} for row in listed)


def _short(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value
